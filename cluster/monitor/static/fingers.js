// Fingers on a chart: one reads values, two zoom and move along the axis; up and down scrolls the page.

// over: what is drawn upon. chart: of uPlot. read(place): reads values out there. zoom({min, max}): shows that.
export function fingers(over, chart, read, zoom) {
  const held = new Map(); // pointer -> pixels from the left
  const place = (event) => event.clientX - over.getBoundingClientRect().left;
  over.addEventListener("pointerdown", (event) => event.pointerType === "touch" && held.set(event.pointerId, place(event)));
  for (const end of ["pointerup", "pointercancel"]) over.addEventListener(end, (event) => held.delete(event.pointerId));
  over.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const value = (left) => chart.posToVal(left, "x"), [a, b] = [...held.values()].map(value);
    held.set(event.pointerId, place(event));
    if (held.size === 1) return read(place(event));
    const [left, right] = held.values();
    if (held.size !== 2 || Math.abs(right - left) < 10 || a === b) return;
    const each = Math.abs((b - a) / (right - left)), low = a - left * each; // what lies under a finger stays there
    zoom({ min: low, max: low + over.clientWidth * each });
  });
}
