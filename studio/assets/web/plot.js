// What all charts share: Plotly's script, loaded once a page, and a layout that follows the theme.
function plotly() {
  window.seedbedPlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("seedbed/plotly.min.js", document.baseURI);
    script.onload = () => resolve(window.Plotly);
    script.onerror = reject;
    document.head.appendChild(script);
  });
  return window.seedbedPlotly;
}

function color(name) {
  return getComputedStyle(element).getPropertyValue(name).trim();
}

function plainLayout(title, horizontal, height) {
  const grid = color("--curve-grid");
  const axis = { gridcolor: grid, linecolor: grid, zeroline: false, automargin: true };
  return {
    title: { text: title, font: { size: 13 }, x: 0.02, xanchor: "left", y: 0.97 },
    height, margin: { l: 48, r: 12, t: 34, b: 32 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { size: 11, color: color("--curve-text"), family: "inherit" },
    xaxis: { ...axis, title: { text: horizontal, standoff: 4 } }, yaxis: { ...axis },
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1.12 },
    hoverlabel: { bgcolor: color("--curve-hover") },
  };
}
