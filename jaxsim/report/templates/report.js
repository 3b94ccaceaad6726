"use strict";
(() => {
  const MOST_BARS = 24, MOST_LINES = 12, ROWS = 25, SEARCH_DELAY = 150;
  const { cells, curves, figures } = JSON.parse(document.getElementById("data").textContent);
  const V = cells.verdicts.length, I = cells.inits.length, R = cells.rules.length;
  const count = cells.counts.length / V;
  const at = (id) => document.getElementById(id);
  const range = (n) => Array.from({ length: n }, (_, k) => k);
  const runs = range(count).map((c) => cells.counts.slice(c * V, (c + 1) * V).reduce((a, b) => a + b, 0));
  const part = (c, v) => runs[c] ? cells.counts[c * V + v] / runs[c] : NaN;
  const percent = (x) => Number.isFinite(x) ? (100 * x).toFixed(1) + "%" : "–";
  const short = (x) => Number.isFinite(x) ? Number(x.toPrecision(4)).toString() : "–";
  const number = (x) => x === null ? NaN : x;
  const bounds = (c, v) => runs[c] && cells.low[c * V + v] !== null
    ? `[${(100 * cells.low[c * V + v]).toFixed(1)}, ${(100 * cells.high[c * V + v]).toFixed(1)}]%` : "–";
  const places = (c) => [Math.floor(c / (R * I)), Math.floor(c / R) % I, c % R];
  const names = (c) => { const [p, i, r] = places(c); return [cells.problems[p], cells.inits[i], cells.rules[r]]; };
  const label = (c) => names(c).filter((_, k) => [cells.problems, cells.inits, cells.rules][k].length > 1).join(", ")
    || cells.rules[0];
  const model = (name) => {
    for (const doc of Bokeh.documents) { const found = doc.get_model_by_name(name); if (found) return found; }
    throw new Error(`no ${name}`);
  };

  // The charts open where there is most to see: at the start whose verdicts are most mixed, and at the problem in
  // which the verdict that is asked about varies most, or where it does not, another.
  const most = (n, measure) => range(n).map(measure).reduce((best, x, k, all) => x > all[best] ? k : best, 0);
  function mixed(i) {
    const begun = range(count).filter((c) => places(c)[1] === i && runs[c]);
    const mean = (v) => begun.reduce((sum, c) => sum + part(c, v), 0) / begun.length;
    return begun.length ? 1 - range(V).reduce((sum, v) => sum + mean(v) ** 2, 0) : -1;
  }
  function spread(p, v) {
    const seen = range(I * R).map((k) => p * I * R + k).filter((c) => runs[c]).map((c) => part(c, v));
    return seen.reduce((a, b) => Math.max(a, b), 0) - seen.reduce((a, b) => Math.min(a, b), 1);
  }
  function openLines() {
    const P = cells.problems.length, widest = (v) => Math.max(...range(P).map((p) => spread(p, v)));
    const v = widest(cells.watched) > 0 ? cells.watched : most(V, widest);
    at("lines-quantity").value = widest(v) > 0 ? v : cells.watched;
    at("lines-problem").value = most(P, (p) => spread(p, v));
  }

  function options(id, texts, all, change) {
    const select = at(id);
    const entries = texts.map((text, k) => [k, text]);
    for (const [value, text] of all && texts.length > 1 ? [["all", all], ...entries] : entries) {
      select.add(new Option(text, value));
    }
    const row = at(`${id}-label`);
    if (row && texts.length < 2) row.hidden = true;
    if (row && row.hidden) row.style.display = "none";
    select.addEventListener("change", change);
  }
  const chosen = (id, n) => at(id).value === "all" ? range(n) : [Number(at(id).value || 0)];

  function legend(id, entries, line) {
    at(id).replaceChildren(...entries.map(([text, colour, dash]) => {
      const entry = document.createElement("span"), swatch = document.createElement("i");
      swatch.style.background = colour;
      if (line) {
        swatch.className = "line";
        swatch.style.borderColor = colour;
        swatch.style.borderTopStyle = { solid: "solid", dashed: "dashed" }[dash] || "dotted";
      }
      entry.append(swatch, text);
      return entry;
    }));
  }

  function drawBars() {
    const rows = [];
    for (const p of chosen("bars-problem", cells.problems.length)) {
      for (const r of chosen("bars-rule", R)) rows.push((p * I + chosen("bars-init", I)[0]) * R + r);
    }
    const shown = rows.slice(0, MOST_BARS), begun = shown.filter((c) => runs[c]);
    const parts = { left: [], right: [], y: [], colour: [], cell: [], verdict: [], count: [], share: [], interval: [] };
    const seen = new Set();
    shown.forEach((c, k) => {
      let left = 0;
      for (const v of range(V)) {
        if (!cells.counts[c * V + v]) continue;
        const width = 100 * part(c, v);
        seen.add(v);
        parts.left.push(left); parts.right.push(left + width); parts.y.push(-k);
        parts.colour.push(cells.verdictColours[v]); parts.cell.push(label(c)); parts.verdict.push(cells.verdicts[v]);
        parts.count.push(`${cells.counts[c * V + v]} of ${runs[c]}`); parts.share.push(percent(part(c, v)));
        parts.interval.push(`${cells.level} interval ${bounds(c, v)}`);
        left += width;
      }
    });
    const fig = model("bars");
    fig.height = 70 + 48 * Math.max(1, shown.length);
    fig.y_range.setv({ start: -shown.length + 0.4, end: 0.9 });
    model("bars-parts").data = parts;
    const short = (c) => [0, 2].filter((k) => [cells.problems, 0, cells.rules][k].length > 1).map((k) => names(c)[k]).join(", ");
    const texts = shown.map((c) => (short(c) || label(c)) + (runs[c] ? "" : ": nothing has run"));
    model("bars-labels").data = { y: range(shown.length).map((k) => -k), text: texts };
    legend("bars-legend", [...seen].sort().map((v) => [cells.verdicts[v], cells.verdictColours[v]]));
    at("bars-words").textContent = !begun.length ? "Nothing has run here yet."
      : rows.length > shown.length ? `The first ${shown.length} of ${rows.length} bars; choose a problem or a rule to see others.` : "";
  }

  // Both kinds of curves as {rule, points: [{x, y, low, high, place, value, interval, count}]}.
  function studyCurves() {
    const [p] = chosen("lines-problem", 1), [v] = chosen("lines-quantity", 1);
    const name = Object.keys(cells.numbers)[chosen("lines-against", 1)[0]];
    const xs = cells.numbers[name];
    const order = range(I).filter((i) => xs[i] !== null).sort((a, b) => xs[a] - xs[b]);
    return { x: name, y: `fraction ${cells.verdicts[v]}`, curves: chosen("lines-rule", R).map((r) => ({
      rule: r,
      points: order.map((i) => (p * I + i) * R + r).filter((c) => runs[c]).map((c) => ({
        x: xs[places(c)[1]], y: part(c, v), low: cells.low[c * V + v], high: cells.high[c * V + v], text: label(c),
        place: cells.inits[places(c)[1]], value: percent(part(c, v)), interval: `${cells.level}: ${bounds(c, v)}`,
        count: `${cells.counts[c * V + v]} of ${runs[c]}`,
      })),
    })) };
  }

  const quantities = [...new Set(curves.map((c) => c.quantity))];
  function runCurves() {
    const [p] = chosen("lines-problem", 1), quantity = quantities[chosen("lines-quantity", 1)[0]], rules = chosen("lines-rule", R);
    const found = curves.filter((c) => c.problem === p && c.quantity === quantity && rules.includes(c.rule));
    const place = (c, x) => c.power ? (x > 0 ? Math.log10(x) : NaN) : x;
    return { x: "step", y: found.length && found[0].power ? `log10 of ${quantity}` : quantity, curves: found.map((c) => ({
      rule: c.rule,
      points: range(c.steps.length).filter((k) => c.q50[k] !== null).map((k) => ({
        x: c.steps[k], y: place(c, number(c.q50[k])), low: place(c, number(c.q05[k])), high: place(c, number(c.q95[k])),
        text: cells.rules[c.rule], place: `step ${c.steps[k]}`, value: `median ${short(number(c.q50[k]))}`,
        interval: `5% to 95%: ${short(number(c.q05[k]))} to ${short(number(c.q95[k]))}`, count: `${c.lanes[k]} finite`,
      })).filter((q) => Number.isFinite(q.y)),
    })) };
  }

  function drawLines() {
    const found = curves.length ? runCurves() : studyCurves();
    const all = found.curves.filter((c) => c.points.length), shown = all.slice(0, MOST_LINES);
    const fig = model("lines");
    fig.below[0].axis_label = found.x;
    fig.left[0].axis_label = found.y;
    const banded = shown.map((c) => c.points.filter((q) => Number.isFinite(q.low) && Number.isFinite(q.high)));
    const colours = shown.map((c) => cells.colours[c.rule]);
    model("lines-bands").data = {
      xs: banded.map((q) => [...q.map((a) => a.x), ...q.map((a) => a.x).reverse()]),
      ys: banded.map((q) => [...q.map((a) => a.low), ...q.map((a) => a.high).reverse()]), colour: colours,
    };
    model("lines-lines").data = {
      xs: shown.map((c) => c.points.map((q) => q.x)), ys: shown.map((c) => c.points.map((q) => q.y)),
      colour: colours, dash: shown.map((c) => cells.dashes[c.rule]),
    };
    const flat = shown.flatMap((c) => c.points.map((q) => ({ ...q, colour: cells.colours[c.rule] })));
    const column = (name) => flat.map((q) => q[name]);
    model("lines-points").data = {
      x: column("x"), y: column("y"), colour: column("colour"), rule: column("text"), place: column("place"),
      value: column("value"), interval: column("interval"), count: column("count"),
    };
    legend("lines-legend", shown.map((c) => [cells.rules[c.rule], cells.colours[c.rule], cells.dashes[c.rule]]), true);
    at("lines-words").textContent = !all.length ? "There is nothing to draw here: no run has a finite value."
      : all.length > shown.length ? `The first ${shown.length} of ${all.length} rules; choose a rule to see another.`
      : curves.length ? "Median over runs; bands from the 5% to the 95% quantile." : `Bands: ${cells.level} intervals.`;
  }

  let first = 0;
  function drawTable() {
    const v = Number(at("table-verdict").value), words = at("table-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let rows = range(count);
    if (words.length) rows = rows.filter((c) => { const text = names(c).join(" ").toLowerCase(); return words.every((w) => text.includes(w)); });
    const rank = {
      high: (c) => -part(c, v), low: (c) => part(c, v), wide: (c) => cells.low[c * V + v] - cells.high[c * V + v],
    }[at("table-order").value];
    if (rank) {
      const keys = new Map(rows.map((c) => [c, runs[c] ? rank(c) : Infinity]));
      rows.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
    }
    first = Math.max(0, Math.min(first, Math.floor((rows.length - 1) / ROWS) * ROWS));
    const shown = rows.slice(first, first + ROWS);
    at("table-count").textContent = cells.verdicts[v];
    at("table").tBodies[0].replaceChildren(...shown.map((c) => {
      const line = document.createElement("tr");
      const texts = [c, ...names(c), runs[c].toLocaleString("en"), runs[c] ? cells.counts[c * V + v].toLocaleString("en") : "–",
        percent(part(c, v)), bounds(c, v)];
      line.append(...texts.map((text) => { const cell = document.createElement("td"); cell.textContent = text; return cell; }));
      return line;
    }));
    at("table-words").textContent = rows.length ? `${first + 1} to ${first + shown.length} of ${rows.length} cells` : "no cell has these words";
    at("table-back").disabled = first === 0;
    at("table-on").disabled = first + ROWS >= rows.length;
  }

  function start() {
    options("bars-problem", cells.problems, "all", drawBars);
    options("bars-init", cells.inits, null, drawBars);
    options("bars-rule", cells.rules, "all", drawBars);
    at("bars-init").value = most(I, mixed);
    drawBars();
    if (figures.length > 1) {
      options("lines-problem", cells.problems, null, drawLines);
      options("lines-quantity", curves.length ? quantities : cells.verdicts, null, drawLines);
      if (!curves.length) openLines();
      options("lines-against", curves.length ? ["step"] : Object.keys(cells.numbers), null, drawLines);
      options("lines-rule", cells.rules, "all", drawLines);
      drawLines();
    }
  }

  function startTable() {
    const again = () => { first = 0; drawTable(); };
    options("table-verdict", cells.verdicts, null, again);
    at("table-verdict").value = cells.watched;
    [cells.problems, cells.inits, cells.rules].forEach((texts, k) => {
      if (texts.length < 2) at("table").classList.add(["hide-problem", "hide-init", "hide-rule"][k]);
    });
    at("table-order").addEventListener("change", again);
    let waiting;
    at("table-filter").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(again, SEARCH_DELAY); });
    at("table-back").addEventListener("click", () => { first -= ROWS; drawTable(); });
    at("table-on").addEventListener("click", () => { first += ROWS; drawTable(); });
    drawTable();
  }

  startTable();
  Promise.all(figures.map((item, k) => Bokeh.embed.embed_item(item, ["bars", "lines"][k]))).then(start).catch((error) => {
    at("trouble").textContent = `The figures could not be drawn (${error}). The table has the same numbers.`;
    at("trouble").hidden = false;
    console.error(error);
  }).finally(() => { document.documentElement.dataset.ready = "yes"; });
})();
