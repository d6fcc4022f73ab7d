// The curves of one run. Asks the server what is new since a cursor; points are appended, so zoom, hidden traces
// and hover survive. `element`, `props`, `watch` and `server` come from the component that hosts this script.
const TICK_MS = 250;
// ticks between two looks: the first point is shown at once, then once a second, an ended run every ten
const WAITING = 1, WATCHING = 4, CALM = 40;
const POINTS_MAX = 4000;
const SMOOTHING = 0.9;
const PANELS = [
  { key: "loss", title: "Loss", traces: [["loss", "loss"], ["loss_smoothed", "smoothed"], ["eval_loss", "validation"]] },
  { key: "learning_rate", title: "Learning rate", traces: [["learning_rate", "learning rate"]] },
  { key: "grad_norm", title: "Gradient norm", traces: [["grad_norm", "gradient norm"]] },
  { key: "tokens_per_s", title: "Tokens per second", traces: [["tokens_per_s", "tokens/s"]] },
  { key: "memory_gb", title: "Memory (GB)", traces: [["memory_gb", "GB"]] },
];
const root = element.querySelector(".curves");
const note = element.querySelector(".curves-empty");
let run = null, cursor = 0, ema = null, points = 0, drawn = false, busy = false, live = true, ticks = 0;
// datasets that are validated by themselves: each has a trace beside the loss, "eval_loss NAME"
const OWN = "eval_loss ";
let validated = [];

function tracesOf(panel) {
  return panel.key === "loss" ? [...panel.traces, ...validated.map((name) => [name, name.slice(OWN.length)])] : panel.traces;
}

function style(name) {
  if (name === "loss") return { line: { width: 1, color: color("--curve-faint") } };
  if (name.startsWith(OWN)) return { line: { width: 1.5, dash: "dot" } };
  if (name === "eval_loss") return { line: { width: 1.5, color: color("--curve-second") } };
  return { line: { width: 2, color: color("--curve-main") } };
}

function layout(panel) {
  const plain = plainLayout(panel.title, "step", panel.key === "loss" ? 320 : 220);
  plain.yaxis.exponentformat = "power";
  return { ...plain, showlegend: tracesOf(panel).length > 1, hovermode: "x unified", uirevision: run };
}

const CONFIG = {
  responsive: true, displaylogo: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  modeBarButtonsToAdd: [{
    name: "Logarithmic", title: "Logarithmic / linear scale", icon: { width: 24, height: 24, path: "M3 21V3h2v16h16v2zM7 17c6 0 8-4 9-12h2c-1 9-4 14-11 14z" },
    click: (plot) => window.Plotly.relayout(plot, { "yaxis.type": plot.layout.yaxis.type === "log" ? "linear" : "log" }),
  }],
};

async function draw(series) {
  const library = await plotly();
  for (const panel of PANELS) {
    let plot = root.querySelector(`[data-panel=${panel.key}]`);
    if (!plot) {
      plot = document.createElement("div");
      plot.dataset.panel = panel.key;
      root.appendChild(plot);
    }
    const traces = tracesOf(panel).map(([name, label]) => {
      const [x, y] = series[name] ?? [[], []];
      const few = name.startsWith("eval_loss") || x.length < 40; // a lone point has no line
      return { type: "scatter", mode: few ? "lines+markers" : "lines", marker: { size: 4 }, name: label, x, y, ...style(name) };
    });
    await library.react(plot, traces, layout(panel), CONFIG);
  }
  drawn = true;
}

async function extend(series) {
  const library = await plotly();
  if (series.loss) series.loss_smoothed = [series.loss[0], series.loss[1].map(smooth)];
  for (const panel of PANELS) {
    const indices = tracesOf(panel).map(([name], index) => (series[name] ? index : -1)).filter((index) => index >= 0);
    if (!indices.length) continue;
    const names = indices.map((index) => tracesOf(panel)[index][0]);
    const update = { x: names.map((name) => series[name][0]), y: names.map((name) => series[name][1]) };
    await library.extendTraces(root.querySelector(`[data-panel=${panel.key}]`), update, indices);
  }
}

function smooth(value) {
  if (value !== null) ema = ema === null ? value : SMOOTHING * ema + (1 - SMOOTHING) * value;
  return ema;
}

async function refresh() {
  const asked = run;
  const answer = await server.curves(asked, cursor);
  if (asked !== run || !answer) return;
  live = answer.live;
  const count = answer.series.loss?.[0].length ?? 0;
  const fresh = Object.keys(answer.series).filter((name) => name.startsWith(OWN) && !validated.includes(name));
  validated.push(...fresh);
  if (fresh.length && drawn) {
    cursor = 0; // one trace more: draw the whole run anew
    drawn = false;
    return;
  }
  if (cursor === 0 && count) {
    ema = answer.ema;
    points = count;
    note.hidden = true;
    root.hidden = false; // before drawing: a hidden chart has no width
    await draw(answer.series);
  } else if (Object.keys(answer.series).length && drawn) {
    points += count;
    await extend(answer.series);
  }
  if (drawn || count === 0) cursor = drawn ? answer.cursor : 0;
  if (points > POINTS_MAX) cursor = 0; // thin again: the server sends the whole run within its budget
  element.dataset.points = points;
}

function show(name) {
  run = name || null;
  cursor = 0; ema = null; points = 0; drawn = false; live = true; ticks = 0; validated = [];
  element.dataset.points = 0;
  element.dataset.run = run ?? "";
  root.replaceChildren();
  root.hidden = true;
  note.hidden = false;
  tick();
}

async function tick() {
  if (busy || !run || document.hidden || !element.offsetParent) return;
  const every = !live ? CALM : drawn ? WATCHING : WAITING;
  if (ticks++ % every) return;
  busy = true;
  try {
    await refresh();
  } catch (error) {
    console.warn("curves:", error); // the next tick tries again: a restarted studio answers in a moment
  } finally {
    busy = false;
  }
}

watch("value", () => { if (props.value !== run) show(props.value); });
new MutationObserver(() => { if (drawn) { cursor = 0; ticks = 0; tick(); } })
  .observe(document.body, { attributes: true, attributeFilter: ["class"] });
show(props.value);
const timer = setInterval(() => element.isConnected ? tick() : clearInterval(timer), TICK_MS);
