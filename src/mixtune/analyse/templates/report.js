"use strict";
// Figures come without colours; this script adds those of the theme and draws them, and again when the theme changes.
const read = (id) => { const found = document.getElementById(id); return found ? JSON.parse(found.textContent) : null; };
const figures = read("figures");
const usage = read("data-usage");
const diverging = read("data-diverging");
const config = { responsive: true, displayModeBar: false, scrollZoom: false };
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const themed = (name) => (name.startsWith("#") ? name : colour(name));
const panels = (name) => document.querySelectorAll(`[data-figure="${name}"]`);
const panel = (name) => panels(name)[0];

function scaleOf(series) {
  if (series === "heat") return [[0, colour("panel")], [1, colour("heat")]];
  const colours = diverging[dark.matches ? "dark" : "light"];
  return colours.map((hue, number) => [number / (colours.length - 1), hue]);
}

function paintTrace(trace) {
  const series = trace.meta.series;
  if (trace.type === "heatmap") {
    trace.colorscale = scaleOf(series);
    trace.colorbar.tickfont = { color: colour("soft"), size: 11 };
  } else if (series === "ring") {
    trace.marker.color = "#ffffff";
    trace.marker.line.color = "#1f2328";
  } else if (series === "map") {
    trace.marker.color = trace.marker.line.color = themed(trace.meta.colour || "line");
  } else if (trace.type === "bar") {
    trace.marker = { color: colour(series) };
    trace.error_x.color = colour("ink");
  } else if (trace.mode === "markers") {
    trace.marker.color = colour(series);
    trace.marker.line.color = colour(series);
    if (trace.error_x) trace.error_x.color = colour(series);
  } else {
    trace.marker = { color: colour(series), size: 9 };
    trace.line = Object.assign(trace.line || {}, { color: colour(series), width: 2 });
  }
}

function paintLayout(layout) {
  const about = layout.meta || {};
  layout.paper_bgcolor = "rgba(0,0,0,0)";
  layout.plot_bgcolor = about.silent ? colour("silent") : "rgba(0,0,0,0)";
  layout.font = { color: colour("ink"), size: 12, family: getComputedStyle(document.body).fontFamily };
  layout.dragmode = false;
  layout.hoverlabel = { bgcolor: colour("paper"), bordercolor: colour("line"), font: { color: colour("ink") } };
  for (const axis of ["xaxis", "yaxis"]) {
    const zero = about.zero && axis === "xaxis" ? colour("soft") : colour("line");
    layout[axis] = Object.assign(layout[axis] || {}, { gridcolor: colour("line"), zerolinecolor: zero, linecolor: colour("line"), automargin: true });
    if (layout[axis].title) layout[axis].title.font = { color: colour("soft"), size: 12 };
  }
  if (layout.legend) layout.legend.font = { color: colour("ink"), size: 12 };
}

// On a phone the scale of a table of tasks lies above it, so that its cells keep the width.
function fit(name) {
  const { data, layout } = figures[name];
  const { rows, longest } = layout.meta || {};
  if (!rows || panel(name).clientWidth > 460) return;
  const bar = { orientation: "h", x: 0.5, xanchor: "center", y: 1, yanchor: "bottom", lenmode: "fraction", len: 0.9, thickness: 8 };
  data.filter((trace) => trace.type === "heatmap").forEach((trace) => Object.assign(trace.colorbar, bar));
  const many = (data[0].x || []).length > 26; // names would touch each other
  layout.height = 85 + (many ? 85 : Math.max(85, 6.5 * longest)) + 15 * rows;
  layout.margin.t = 8;
  for (const axis of [layout.xaxis, layout.yaxis]) axis.tickfont = { size: 10 };
  if (layout.yaxis.title) layout.yaxis.title.text = "";
  if (many) {
    Object.assign(layout.xaxis, { showticklabels: false, ticks: "" });
    layout.xaxis.title = { text: "columns in the order of the rows" };
  }
}

function draw(name) {
  const figure = figures[name];
  fit(name);
  figure.data.forEach(paintTrace);
  paintLayout(figure.layout);
  return Plotly.react(panel(name), figure.data, figure.layout, config);
}

function showLayer(number) {
  for (const side of ["a", "b"].filter((each) => each in usage)) {
    figures["usage-" + side].data[0].z = usage[side][number].map((row) => row.map((value) => value / 1000));
    draw("usage-" + side);
  }
  document.getElementById("layer").value = String(number);
}

function startUsage() {
  const menu = document.getElementById("layer");
  usage.layers.forEach((name, number) => menu.add(new Option(name, String(number))));
  menu.addEventListener("change", () => showLayer(Number(menu.value)));
  showLayer(usage.start);
  panel("places").on("plotly_click", (event) => {
    const number = event.points[0].customdata;
    if (number !== null && number !== undefined) showLayer(number);
  });
}

function startCurves(menu) {
  const name = menu.dataset.curves;
  menu.addEventListener("change", () => {
    figures[name].data.forEach((trace) => { trace.visible = trace.meta.choice === menu.value; });
    draw(name);
  });
}

function startGroups(menu) {
  const groups = read("data-interference-" + menu.dataset.groups);
  groups.forEach((group, number) => menu.add(new Option(group.name, String(number))));
  menu.addEventListener("change", () => {
    for (const side of ["A", "B"]) {
      const name = `interference-${menu.dataset.groups}-any-${side}`;
      const found = groups[Number(menu.value)][side];
      const [heat, rings] = figures[name].data;
      Object.assign(heat, { z: found.z, text: found.text });
      Object.assign(rings, { x: found.x, y: found.y });
      draw(name);
    }
  });
}

function startMaps(number) {
  const found = read("data-maps-" + number);
  const menus = [...document.querySelectorAll(`[data-map="${number}"]`)];
  const chosen = (by) => menus.find((menu) => menu.dataset.by === by).value;
  const show = () => {
    for (const router of ["trained", "untrained"]) {
      const name = `map-${number}-${router}`;
      figures[name].data.forEach((trace, task) => {
        const mine = found.domain[task] === chosen("domain");
        [trace.x, trace.y] = found.maps[chosen("layers")][router][task];
        trace.meta.colour = mine ? found.colour[task] : "line";
        trace.showlegend = mine;
        trace.zorder = mine ? 1 : 0;
      });
      draw(name);
    }
  };
  menus.forEach((menu) => menu.addEventListener("change", show));
  show();
}

async function loadPlotly() {
  const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), (letter) => letter.charCodeAt(0));
  const script = document.createElement("script");
  script.textContent = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
}

function start() {
  const drawAll = () => Object.keys(figures).forEach(draw);
  drawAll();
  document.querySelectorAll("[data-curves]").forEach(startCurves);
  document.querySelectorAll("[data-groups]").forEach(startGroups);
  document.querySelectorAll('[data-map][data-by="layers"]').forEach((menu) => startMaps(menu.dataset.map));
  if (usage) startUsage();
  dark.addEventListener("change", drawAll);
}

if (window.DecompressionStream) loadPlotly().then(start);
else document.querySelectorAll(".plot").forEach((place) => { place.textContent = "This figure needs a browser of 2023 or later; the tables hold its numbers."; });
