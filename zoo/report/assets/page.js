/* Sliders, chart, table. What it draws was written by zoo/report/page.py into #data. */
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const byId = new Map(data.candidates.map((c) => [c.id, c]));
  const judged = data.order.map((id) => byId.get(id));
  const points = data.candidates.filter((c) => c.quality !== null && c.status !== "baseline");
  const baseline = data.candidates
    .filter((c) => c.status === "baseline" && c.quality !== null)
    .reduce((a, b) => (a === null || b.quality > a.quality ? b : a), null);
  const start = Object.fromEntries(data.axes.map((a) => [a.key, a.limit]));
  const limits = { ...start };
  const STEPS = 400;
  const MANY = 15; // from so many points on, bars would hide the points
  const STRIPS = 300; // beyond, a strip takes longer than a frame

  const figure = (v) => (v === null || v === undefined ? "–" : String(Number(v.toPrecision(3))));
  const make = (name, attributes = {}, ...children) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };

  // --- sliders
  const sliders = new Map();

  function scale(axis) {
    const values = data.candidates.map((c) => c.cost[axis.key]).filter((v) => v > 0);
    if (axis.limit > 0) values.push(axis.limit);
    if (!values.length || (new Set(values).size < 2 && axis.limit === null)) return null;
    const low = Math.min(...values) * 0.8;
    return { low, high: Math.max(...values) * 1.1 };
  }
  const valueAt = (s, step) => (step >= STEPS ? null : Number((s.low * (s.high / s.low) ** (step / STEPS)).toPrecision(3)));
  const stepOf = (s, value) =>
    value === null ? STEPS : Math.max(0, Math.min(STEPS - 1, Math.round((Math.log(value / s.low) / Math.log(s.high / s.low)) * STEPS)));

  function buildSliders() {
    for (const axis of data.axes) {
      const s = scale(axis);
      if (s === null) continue;
      const input = make("input", { type: "range", min: 0, max: STEPS, step: 1, id: "s-" + axis.key, "data-axis": axis.key });
      const output = make("output", { for: input.id });
      const strip = make("div", { class: "strip", "aria-hidden": "true" });
      const label = make("label", { for: input.id }, make("span", {}, axis.label), output);
      $("sliders").append(make("div", { class: "slider" }, label, input, strip));
      sliders.set(axis.key, { axis, s, input, output, strip });
      input.addEventListener("input", () => {
        limits[axis.key] = valueAt(s, Number(input.value));
        later();
      });
    }
    $("reset").addEventListener("click", () => {
      Object.assign(limits, start);
      show();
    });
  }

  function placeSliders() {
    for (const [key, { axis, s, input, output, strip }] of sliders) {
      const step = stepOf(s, limits[key]);
      if (valueAt(s, Number(input.value)) !== limits[key]) input.value = step;
      const text = limits[key] === null ? "no limit" : `≤ ${figure(limits[key])} ${axis.unit}`;
      output.value = text;
      input.setAttribute("aria-valuetext", text);
      drawStrip(key, s, strip);
    }
  }

  /* Where on this slider which candidate would be picked, the other limits as they are. */
  function drawStrip(key, s, strip) {
    strip.replaceChildren();
    if (judged.length > STRIPS) return;
    const now = pickWithin(limits);
    const edges = [...new Set(judged.map((c) => c.cost[key]).filter((v) => v > 0))].sort((a, b) => a - b);
    const parts = [];
    for (const edge of edges) {
      const pick = pickWithin({ ...limits, [key]: edge });
      if (pick && (!parts.length || parts[parts.length - 1].pick !== pick)) parts.push({ edge, pick });
    }
    const place = (value) => (100 * Math.log(value / s.low)) / Math.log(s.high / s.low);
    parts.forEach(({ edge, pick }, i) => {
      const left = Math.max(0, place(edge));
      const right = i + 1 < parts.length ? place(parts[i + 1].edge) : 100;
      const part = make("i", { class: pick === now ? "now" : i % 2 ? "other" : "", title: pick.id });
      part.style.left = left + "%";
      part.style.width = Math.max(0, right - left) + "%";
      strip.append(part);
    });
  }

  const pickWithin = (budget) => ZooRule.choose(judged, data.ties, budget)?.pick ?? null;

  // --- what is picked, in words
  const within = (axis) => (/^[A-Z][a-z]/.test(axis.label) ? axis.label[0].toLowerCase() + axis.label.slice(1) : axis.label);
  const described = (budget) =>
    data.axes
      .filter((a) => budget[a.key] !== null)
      .map((a) => `${within(a)} ≤ ${figure(budget[a.key])} ${a.unit}`)
      .join(", ") || "no limit";

  const costLine = (c) =>
    data.axes
      .slice(0, 2)
      .filter((a) => c.cost[a.key] !== null)
      .map((a) => `${figure(c.cost[a.key])} ${a.unit}`)
      .join(", ");

  function tell(found) {
    const lines = [];
    const heading = make("p", { class: "small muted" }, `Within ${described(limits)}:`);
    if (found === null) {
      const near = ZooRule.nearest(judged, limits);
      const worst = ZooRule.excesses(near, limits)[0];
      const axis = data.axes.find((a) => a.key === worst.axis);
      lines.push(make("p", { class: "id", "data-pick": "" }, "Nothing that was judged fits"));
      const value = worst.value === Infinity ? "was not measured" : `is ${figure(worst.value)} ${axis.unit}`;
      lines.push(make("p", { class: "small" }, `The nearest is ${near.id}: its ${within(axis)} ${value}.`));
    } else {
      const { pick, tied } = found;
      lines.push(make("p", { class: "id", "data-pick": pick.id }, pick.id));
      const said = [`accuracy ${pick.quality.toFixed(3)}`];
      if (pick.low !== null) said[0] += ` (${pick.low.toFixed(3)} to ${pick.high.toFixed(3)})`;
      said.push(costLine(pick));
      if (tied.length > 1) said.push(`the cheapest of ${tied.length} that tie`);
      lines.push(make("p", { class: "small" }, said.filter(Boolean).join(" · ")));
      lines.push(make("p", { class: "small muted" }, beside(pick)));
    }
    const strangers = data.candidates.filter((c) => c.status === "over budget" && c.quality === null && ZooRule.fits(c, limits));
    if (strangers.length) {
      const more = strangers.length === 1 ? "One more candidate would fit" : `${strangers.length} more candidates would fit`;
      const whose = strangers.length === 1 ? "whose quality was" : "whose qualities were";
      lines.push(make("p", { class: "small muted" }, `${more}, ${whose} not judged: run zoo select again with this budget.`));
    }
    $("pick").replaceChildren(heading, ...lines);
  }

  function beside(pick) {
    const best = byId.get(data.best);
    if (!best) return "";
    if (pick === best) return "This is what ships.";
    const gap = 100 * (pick.quality - best.quality);
    return `Ships: ${best.id}. This one: ${gap >= 0 ? "+" : "−"}${Math.abs(gap).toFixed(1)} points.`;
  }

  // --- the chart
  let plotly = null;
  let width = null; // of the paper, while printing
  const shown = () => data.axes.find((a) => a.key === $("axis").value) ?? data.axes[0];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  function buildAxis() {
    for (const axis of data.axes)
      if (points.some((c) => c.cost[axis.key] !== null)) $("axis").append(make("option", { value: axis.key }, axis.label));
    $("axis").addEventListener("change", show);
  }

  function markers(name, list, axis, marker, extra = {}) {
    const bars = extra.bars ?? list.length <= MANY;
    return {
      type: "scatter", mode: "markers", name, showlegend: false,
      x: list.map((c) => c.cost[axis.key]), y: list.map((c) => c.quality),
      customdata: list.map((c) => c.anchor),
      hovertext: list.map((c) => hover(c)), hovertemplate: "%{hovertext}<extra></extra>",
      error_y: bars && list.every((c) => c.low !== null)
        ? { type: "data", symmetric: false, array: list.map((c) => c.high - c.quality), arrayminus: list.map((c) => c.quality - c.low),
            thickness: 1, width: 0, color: extra.bar ?? marker.color }
        : { visible: false },
      marker, ...(extra.trace ?? {}),
    };
  }

  // Plotly reads some HTML in its texts: an id must stay text.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const wrapped = (text) => plain(text).replace(/(.{44})/g, "$1<br>");
  function hover(c) {
    const interval = c.low === null ? "" : ` (${c.low.toFixed(3)} to ${c.high.toFixed(3)})`;
    const costs = data.axes.filter((a) => c.cost[a.key] !== null).map((a) => `${a.label} ${figure(c.cost[a.key])} ${a.unit}`);
    return [`<b>${wrapped(c.id)}</b>`, `accuracy ${c.quality.toFixed(3)}${interval}`, ...costs].join("<br>");
  }

  function traces(axis, found) {
    const list = points.filter((c) => c.cost[axis.key] > 0);
    const inside = list.filter((c) => ZooRule.fits(c, limits));
    const outside = list.filter((c) => !inside.includes(c));
    const front = ZooRule.front(inside, axis.key);
    const pick = found?.pick ?? null;
    const tied = (found?.tied ?? []).filter((c) => c !== pick && c.cost[axis.key] > 0);
    const rest = inside.filter((c) => c !== pick && !tied.includes(c));
    const faint = colour("line");
    const bars = list.length <= MANY;
    const result = [
      markers("over", outside, axis, { color: faint, size: 7, line: { color: colour("point"), width: 0.5 } }, { bar: faint, bars }),
      {
        type: "scatter", mode: "lines", name: "front", showlegend: false, hoverinfo: "skip",
        x: front.map((c) => c.cost[axis.key]), y: front.map((c) => c.quality),
        line: { shape: "hv", color: colour("accent"), width: 1.5 }, opacity: 0.6,
      },
      markers("fits", rest, axis, { color: colour("point"), size: 8 }, { bars }),
      markers("tied", tied, axis, { color: colour("card"), size: 9, line: { color: colour("accent"), width: 2 } }, { bar: colour("accent"), bars }),
    ];
    if (pick && pick.cost[axis.key] > 0)
      result.push(markers("pick", [pick], axis, { color: colour("accent"), size: 13 }, { bars: true }));
    return result;
  }

  function layout(axis, found) {
    const ink = colour("ink"), muted = colour("muted"), line = colour("line");
    const shapes = [], annotations = [];
    const text = { font: { size: 11, color: muted }, showarrow: false };
    if (baseline) {
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: baseline.quality, y1: baseline.quality, line: { color: muted, width: 1, dash: "dot" } });
      annotations.push({ ...text, xref: "paper", x: 0, xanchor: "left", y: baseline.quality, yanchor: "bottom", text: plain(baseline.id) });
    }
    const limit = limits[axis.key];
    if (inSight(axis, limit)) {
      shapes.push({ type: "line", yref: "paper", x0: limit, x1: limit, y0: 0, y1: 1, line: { color: colour("warn"), width: 1.5, dash: "dash" } });
      annotations.push({ ...text, yref: "paper", y: 1, yanchor: "bottom", x: Math.log10(limit), xanchor: "center", text: `limit ${figure(limit)} ${axis.unit}`, font: { size: 11, color: colour("warn") } });
    }
    const pick = found?.pick;
    if (pick && pick.cost[axis.key] > 0) {
      const room = Math.max(10, Math.floor(((width ?? $("chart").clientWidth) - 90) * 0.075));
      const name = pick.id.length > room ? pick.id.slice(0, room - 1) + "…" : pick.id;
      const xs = points.map((c) => c.cost[axis.key]).filter((v) => v > 0).sort((a, b) => a - b);
      const middle = Math.sqrt(xs[0] * xs[xs.length - 1]);
      const left = pick.cost[axis.key] <= middle;
      annotations.push({ x: Math.log10(pick.cost[axis.key]), y: pick.quality, text: `<b>${plain(name)}</b>`, showarrow: false, xanchor: left ? "left" : "right",
        xshift: left ? 10 : -10, yanchor: "bottom", yshift: 6, font: { size: 12, color: ink }, bgcolor: colour("card"), opacity: 0.85, borderpad: 1 });
    }
    const common = { gridcolor: line, zeroline: false, linecolor: line, tickfont: { size: 11, color: muted }, fixedrange: true, automargin: true };
    return {
      xaxis: { ...common, type: "log", title: { text: `${axis.label}, ${axis.unit}`, font: { size: 12, color: muted } }, ...ticks(axis) },
      yaxis: { ...common, title: { text: "Accuracy", font: { size: 12, color: muted } } },
      shapes, annotations, width: width ?? undefined, height: width === null ? undefined : 400, autosize: width === null,
      margin: { l: 52, r: 20, t: 28, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: ink }, hoverlabel: { bgcolor: colour("card"), bordercolor: line, font: { color: ink, size: 12 }, align: "left" },
      hovermode: "closest", dragmode: false,
    };
  }

  /* A limit far from all points would leave them a corner of the chart: its line is left out. */
  function inSight(axis, limit) {
    const values = points.map((c) => c.cost[axis.key]).filter((v) => v > 0);
    return limit > 0 && limit < 3 * Math.max(...values) && limit > Math.min(...values) / 3;
  }

  /* 1, 2 and 5 of each decade: plotly's own labels of a logarithmic axis are hard to read. */
  function ticks(axis) {
    const values = points.map((c) => c.cost[axis.key]).filter((v) => v > 0);
    if (!values.length) return {};
    if (inSight(axis, limits[axis.key])) values.push(limits[axis.key]);
    const low = Math.log10(Math.min(...values)), high = Math.log10(Math.max(...values));
    const margin = Math.max(0.06 * (high - low), 0.04);
    const wide = high - low > 2.5, narrow = high - low < 0.6;
    const found = [];
    for (let d = Math.floor(low) - 1; d <= Math.ceil(high); d++)
      for (const digit of wide ? [1] : narrow ? [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9] : [1, 2, 5]) found.push(digit * 10 ** d);
    return { range: [low - margin, high + margin], tickvals: found, ticktext: found.map((v) => figure(v)) };
  }

  function draw(found) {
    if (plotly === null) return;
    const axis = shown();
    plotly.react($("chart"), traces(axis, found), layout(axis, found), { displayModeBar: false, responsive: true });
  }

  async function unpack() {
    const bytes = Uint8Array.from(atob($("plotly").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = make("script");
    script.text = await new Response(stream).text();
    document.head.append(script);
    return window.Plotly;
  }

  async function startChart() {
    if (!$("chart") || !points.length) return;
    try {
      plotly = await unpack();
    } catch {
      $("chart").textContent = "This browser cannot draw the chart; the table below holds the same figures.";
      return;
    }
    show();
    $("chart").on("plotly_click", (event) => open(event.points[0].customdata));
    const again = () => draw(current());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    // Colours were read for the screen, and the width is the window's: both are drawn anew for paper.
    matchMedia("print").addEventListener("change", (event) => {
      width = event.matches ? $("chart").clientWidth : null;
      again();
    });
    document.documentElement.dataset.chart = "drawn";
  }

  // --- all of it
  const current = () => (judged.length ? ZooRule.choose(judged, data.ties, limits) : null);
  let waiting = false;
  function later() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      show();
    });
  }
  function show() {
    const found = current();
    if ($("sliders") && judged.length) {
      placeSliders();
      tell(found);
    }
    draw(found);
    dim();
    filter();
  }

  // --- the table
  const rows = $("table") ? [...$("table").tBodies[0].rows] : [];

  function dim() {
    for (const row of rows) {
      const c = data.candidates.find((x) => x.anchor === row.dataset.anchor);
      row.classList.toggle("out", c.status !== "baseline" && !ZooRule.fits(c, limits));
    }
  }

  function filter() {
    if (!rows.length) return;
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const status = $("status").value;
    let count = 0;
    for (const row of rows) {
      const text = row.cells[0].textContent.toLowerCase();
      const right = status === "*fits" ? !row.classList.contains("out") : !status || row.dataset.status === status;
      row.hidden = !(right && words.every((word) => text.includes(word)));
      count += !row.hidden;
    }
    $("count").textContent = count === rows.length ? "" : `${count} of ${rows.length}`;
    $("none").hidden = count > 0;
  }

  function sort(column, direction) {
    const heads = [...$("table").tHead.rows[0].cells];
    heads.forEach((head, i) => head.setAttribute("aria-sort", i === column ? direction : "none"));
    const sign = direction === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.v;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is not known goes last, either way
      return sign * (column === 0 ? x.localeCompare(y) : Number(x) - Number(y));
    };
    rows.sort(compare);
    $("table").tBodies[0].append(...rows);
  }

  function buildTable() {
    if (!rows.length) return;
    const heads = [...$("table").tHead.rows[0].cells];
    $("sortby").append(make("option", { value: "" }, "Sort by"));
    heads.forEach((head, column) => {
      $("sortby").append(make("option", { value: column }, head.innerText.replace(/\s+/g, " ")));
      const first = column === 1 ? "descending" : "ascending"; // of accuracy more is better
      head.firstElementChild.addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        sort(column, was === "none" ? first : was === "ascending" ? "descending" : "ascending");
      });
    });
    $("sortby").addEventListener("change", () => {
      const column = Number($("sortby").value);
      if ($("sortby").value !== "") sort(column, column === 1 ? "descending" : "ascending");
    });
    $("filter").addEventListener("input", filter);
    $("status").addEventListener("change", filter);
  }

  // --- cards
  function open(anchor) {
    const card = $(anchor);
    if (card?.tagName !== "DETAILS") return;
    card.open = true;
    card.scrollIntoView();
    card.querySelector("summary").focus({ preventScroll: true });
  }

  function buildCards() {
    const follow = () => open(location.hash.slice(1));
    addEventListener("hashchange", follow);
    if (location.hash) follow();
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.("a[href^='#c']");
      if (link && link.hash === location.hash) open(link.hash.slice(1)); // no hashchange comes
    });
  }

  function buildCopy() {
    const button = $("copy");
    if (!button || !navigator.clipboard) return;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText($("command").textContent);
      button.textContent = "Copied";
    });
  }

  if ($("axis")) buildAxis();
  if ($("sliders") && judged.length) buildSliders();
  buildTable();
  buildCards();
  buildCopy();
  show();
  startChart();
})();
