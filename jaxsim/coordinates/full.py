"""Full coordinates: the matrix W itself."""

from jaxsim.coordinates.primal import PrimalFrame


class FullFrame(PrimalFrame):
    """W itself, for rules that act on its entries."""

    kind: str = "full"
    whole: bool = True
