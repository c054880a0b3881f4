"use strict";
// Figures come without colours; this script adds those of the theme and draws them, and again when the theme changes.
const figures = JSON.parse(document.getElementById("figures").textContent);
const usage = JSON.parse(document.getElementById("usage").textContent);
const config = { responsive: true, displayModeBar: false, scrollZoom: false };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const panel = (name) => document.querySelector(`[data-figure="${name}"]`);

function paintTrace(trace) {
  const series = trace.meta.series;
  const hue = colour(series);
  if (trace.type === "heatmap") {
    trace.colorscale = [[0, colour("panel")], [1, hue]];
    trace.colorbar.tickfont = { color: colour("soft"), size: 11 };
  } else if (trace.type === "bar") {
    trace.marker = { color: hue };
    trace.error_x.color = colour("ink");
  } else if (series === "chance") {
    trace.marker.color = hue;
    trace.marker.line.color = hue;
  } else {
    trace.line = { color: hue, width: 2 };
  }
}

function paintLayout(layout) {
  layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
  layout.font = { color: colour("ink"), size: 12, family: getComputedStyle(document.body).fontFamily };
  layout.dragmode = false;
  layout.hoverlabel = { bgcolor: colour("paper"), bordercolor: colour("line"), font: { color: colour("ink") } };
  for (const axis of ["xaxis", "yaxis"]) {
    layout[axis] = Object.assign(layout[axis] || {}, { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true });
    if (layout[axis].title) layout[axis].title.font = { color: colour("soft"), size: 12 };
  }
  if (layout.legend) layout.legend.font = { color: colour("ink"), size: 12 };
}

function draw(name) {
  const figure = figures[name];
  figure.data.forEach(paintTrace);
  paintLayout(figure.layout);
  return Plotly.react(panel(name), figure.data, figure.layout, config);
}

function showLayer(number) {
  for (const side of ["a", "b"]) {
    figures["usage-" + side].data[0].z = usage[side][number].map((row) => row.map((value) => value / 1000));
    draw("usage-" + side);
  }
  document.getElementById("layer").value = String(number);
}

function startRouting() {
  const menu = document.getElementById("layer");
  usage.layers.forEach((name, number) => menu.add(new Option(name, String(number))));
  menu.addEventListener("change", () => showLayer(Number(menu.value)));
  showLayer(usage.start);
  panel("places").on("plotly_click", (event) => {
    const number = event.points[0].customdata;
    if (number !== null && number !== undefined) showLayer(number);
  });
}

function startCurves() {
  const menu = document.getElementById("choice");
  menu.addEventListener("change", () => {
    figures.curves.data.forEach((trace) => { trace.visible = trace.meta.choice === menu.value; });
    draw("curves");
  });
}

const drawAll = () => Object.keys(figures).forEach(draw);
drawAll();
if (figures.curves) startCurves();
if (usage) startRouting();
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
