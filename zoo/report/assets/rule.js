"use strict";
/* The rule of zoo/choose/rule.py and the limits of zoo/choose/limits.py, for budgets that are tried on the page.
   Which candidates tie was told by Python, from the paired intervals and the tolerance: `order` and `ties` of
   zoo/choose/details.py. tests/core/test_report_browser.py holds the two against each other. */
const ZooRule = (() => {
  const latency = (c) => (c.p50 === null ? Infinity : c.p50);

  function noise(c) {
    if (c.p50_low !== null && c.p50_high !== null && c.p50) return (c.p50_high - c.p50_low) / c.p50 / 2;
    return (c.spread ?? 0) / 2;
  }

  /* Limits that a candidate breaks, the worst first. limits: {axis: number, or null for none}. A figure that was
     not measured breaks its limit. */
  function excesses(c, limits) {
    const broken = [];
    for (const [axis, allowed] of Object.entries(limits)) {
      if (allowed === null) continue;
      const value = c.cost[axis] ?? Infinity;
      if (value > allowed) broken.push({ axis, value, allowed, ratio: value / allowed });
    }
    return broken.sort((a, b) => b.ratio - a.ratio);
  }

  const fits = (c, limits) => excesses(c, limits).length === 0;
  const before = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const least = (list, key) => list.reduce((a, b) => (key(b, a) < 0 ? b : a));

  function cheapest(tied) {
    const fastest = least(tied, (a, b) => latency(a) - latency(b) || before(a.id, b.id));
    const limit = latency(fastest) * (1 + noise(fastest));
    const equal = tied.filter((c) => latency(c) <= limit);
    return least(equal, (a, b) => (a.bytes ?? 0) - (b.bytes ?? 0) || before(a.id, b.id));
  }

  /* {pick, tied}: the candidate to ship and those that tie with the best, or null where nothing judged fits. */
  function choose(judged, ties, limits) {
    const top = judged.findIndex((c) => fits(c, limits));
    if (top < 0) return null;
    const equals = (ties[judged[top].id] ?? []).map((place) => judged[place]);
    const tied = [judged[top], ...equals.filter((c) => fits(c, limits))];
    return { pick: cheapest(tied), tied };
  }

  /* Of what does not fit, the candidate whose worst excess is least. */
  function nearest(judged, limits) {
    return least(judged, (a, b) => excesses(a, limits)[0].ratio - excesses(b, limits)[0].ratio || before(a.id, b.id));
  }

  /* Those that no other beats in both, the cheapest first. */
  function front(list, axis) {
    const points = list.filter((c) => c.cost[axis] != null && c.quality !== null);
    points.sort((a, b) => a.cost[axis] - b.cost[axis] || b.quality - a.quality || before(a.id, b.id));
    const found = [];
    for (const c of points) if (!found.length || c.quality > found[found.length - 1].quality) found.push(c);
    return found;
  }

  return { excesses, fits, choose, nearest, front };
})();
if (typeof module !== "undefined") module.exports = ZooRule;
