"""What every member of every registry keeps, what is refused by name, and members from outside in every place."""
