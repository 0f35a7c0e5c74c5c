"use strict";
document.documentElement.classList.add("js");
const sections = [...document.querySelectorAll("details")];
const links = [...document.querySelectorAll("nav a")];
const tooltip = document.getElementById("tooltip");

// Folding: links open their section, printing opens all.
const fold = document.getElementById("fold");
const setAll = (open) => sections.forEach((section) => { section.open = open; });
const nameFold = () => { fold.textContent = sections.some((section) => section.open) ? "Fold all" : "Unfold all"; };
fold.addEventListener("click", () => setAll(!sections.some((section) => section.open)));
sections.forEach((section) => section.addEventListener("toggle", nameFold));
const target = (link) => document.getElementById(decodeURIComponent(link.hash.slice(1)));
links.forEach((link) => link.addEventListener("click", () => {
  if ("open" in target(link)) target(link).open = true;
}));
let folded = [];
addEventListener("beforeprint", () => { folded = sections.filter((section) => !section.open); setAll(true); });
addEventListener("afterprint", () => folded.forEach((section) => { section.open = false; }));

// The table of contents marks the last section that begins in the upper third of the window.
function markCurrent() {
  const isAtEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  const begun = links.filter((link) => target(link).getBoundingClientRect().top < innerHeight / 3);
  const current = isAtEnd && scrollY > 0 ? links.at(-1) : begun.at(-1) ?? links[0];
  if (current.hasAttribute("aria-current")) return;
  links.forEach((link) => link.removeAttribute("aria-current"));
  current.setAttribute("aria-current", "true");
  const bar = document.querySelector("nav");
  if (bar.scrollWidth > bar.clientWidth) bar.scrollTo({ left: current.offsetLeft - 40 });
}
addEventListener("scroll", () => {
  tooltip.hidden = true;
  requestAnimationFrame(markCurrent);
}, { passive: true });
addEventListener("resize", markCurrent);
markCurrent();

// Tables: a click on a header sorts by its column, numbers by value; empty cells come last.
function sortBy(header) {
  const table = header.closest("table"), column = header.cellIndex;
  const sign = header.ariaSort === "ascending" ? -1 : 1;
  const key = (row) => {
    const cell = row.cells[column];
    return "number" in cell.dataset ? Number(cell.dataset.number) : cell.textContent;
  };
  const isMissing = (value) => value === "" || Number.isNaN(value);
  const compare = (a, b) => {
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]).sort(([a], [b]) => compare(a, b));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  table.querySelectorAll("thead th").forEach((each) => { each.ariaSort = "none"; });
  header.ariaSort = sign > 0 ? "ascending" : "descending";
}
document.querySelectorAll("thead th").forEach((header) => {
  header.firstElementChild.addEventListener("click", () => sortBy(header));
});

// Charts with hover take the place of figures. Where plotly.js does not start, the figures stay.
const darkColors = {
  "#3465a4": "#7ea6e0", "#b3401f": "#f08a6b", "#4e9a06": "#8fd14f", "#75507b": "#c39bd0", "#c4a000": "#e5c94a",
  "#2e9599": "#63cdd1", "#777777": "#b0b0b0",
};
const isDark = matchMedia("(prefers-color-scheme: dark)");
const isTouch = matchMedia("(pointer: coarse)").matches;
const drawn = [];
let library;

function loadLibrary() {
  library ??= (async () => {
    const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), (each) => each.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  })();
  return library;
}

function themed({ data, layout }) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = { gridcolor: color("grid"), linecolor: color("line"), zerolinecolor: color("line"), automargin: true };
  return [
    data.map((trace) => trace.line && isDark.matches
      ? { ...trace, line: { ...trace.line, color: darkColors[trace.line.color] ?? trace.line.color } } : trace),
    {
      ...layout, autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: color("ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
      margin: { l: 10, r: 10, t: 36, b: 10 }, title: { ...layout.title, x: 0, xref: "paper", font: { size: 15 } },
      xaxis: { ...axis, ...layout.xaxis, title: { standoff: 8, ...layout.xaxis.title } },
      yaxis: { ...axis, ...layout.yaxis, title: { standoff: 8, ...layout.yaxis.title } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: color("muted"), activecolor: color("accent") }, dragmode: isTouch ? false : "zoom",
      hoverlabel: { bgcolor: color("paper"), bordercolor: color("line"), font: { color: color("ink") }, namelength: -1 },
      legend: { orientation: "h", x: 0, xref: "paper", y: 0, yref: "container", yanchor: "bottom", itemsizing: "constant" },
    },
  ];
}

function showTooltip(element, point, { indices, url, columns, width, height }) {
  const place = point.customdata, [picture, text] = tooltip.children, scale = Math.max(1, Math.round(96 / width));
  const label = point.data.meta;
  text.textContent = `${label ? `${label}\n` : ""}test image ${indices[place]}`;
  picture.style.cssText = url ? `width:${width * scale}px;height:${height * scale}px;background:url(${url})
    ${-(place % columns) * width * scale}px ${-Math.floor(place / columns) * height * scale}px / ${columns * width * scale}px` : "display:none";
  tooltip.hidden = false;
  const area = element.querySelector(".nsewdrag").getBoundingClientRect(), { offsetWidth, offsetHeight } = tooltip;
  const x = area.left + point.xaxis.d2p(point.x), y = area.top + point.yaxis.d2p(point.y);
  tooltip.style.left = `${x + 16 + offsetWidth > innerWidth ? Math.max(0, x - 16 - offsetWidth) : x + 16}px`;
  tooltip.style.top = `${Math.max(0, Math.min(y - offsetHeight / 2, innerHeight - offsetHeight))}px`;
}

async function draw(place, { charts, thumbnails }) {
  await loadLibrary();
  place.classList.toggle("map", "indices" in thumbnails);
  // All are in place before the first is drawn, so that it has its width.
  const elements = charts.map(() => place.appendChild(document.createElement("div")));
  for (const [number, chart] of charts.entries()) {
    const element = elements[number];
    await Plotly.newPlot(element, ...themed(chart), {
      responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "", displayModeBar: isTouch ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    });
    drawn.push([element, chart]);
    const isMap = "indices" in thumbnails;
    if (isMap) {
      element.on("plotly_hover", (hover) => showTooltip(element, hover.points[0], thumbnails));
      element.on("plotly_unhover", () => { tooltip.hidden = true; });
    }
    // On screens that are touched, plotly.js knows taps only, and ends what they show after 100 ms.
    if (isTouch) element.on("plotly_click", ({ points }) => setTimeout(() => isMap
      ? showTooltip(element, points[0], thumbnails)
      : Plotly.Fx.hover(element, points.map(({ curveNumber, pointNumber }) => ({ curveNumber, pointNumber }))), 200));
  }
}
isDark.addEventListener("change", () => drawn.forEach(([element, chart]) => Plotly.react(element, ...themed(chart))));

const plots = JSON.parse(document.getElementById("plots")?.textContent ?? "{}");
const observer = new IntersectionObserver((entries) => entries.filter((each) => each.isIntersecting).forEach((each) => {
  observer.unobserve(each.target);
  const place = each.target.querySelector(".charts");
  draw(place, plots[place.dataset.plot]).catch((error) => { place.replaceChildren(); console.warn(error); });
}), { rootMargin: "800px" });
document.querySelectorAll("figure:has(> .charts)").forEach((figure) => observer.observe(figure));
