// The curves of one run. Asks the server what is new since a cursor; points are appended, so zoom, hidden traces
// and hover survive. `element`, `props`, `watch` and `server` come from the component that hosts this script.
const inChinese = navigator.language.toLowerCase().startsWith("zh");
const say = (english, chinese) => (inChinese ? chinese : english);
const TICK_MS = 250;
// ticks between two looks: the first point is shown at once, then once a second, an ended run every ten
const WAITING = 1, WATCHING = 4, CALM = 40;
const POINTS_MAX = 4000;
const SMOOTHING = 0.9;
const PANELS_MAX = 8; // more than these, and what few people watch is folded away
// what is watched comes first, how the work goes last; all else is in between, by name
const WATCHED = [
  ["loss", say("Loss", "损失")], ["rewards/margins", say("Reward margin", "奖励边际")],
  ["rewards/accuracies", say("Preferred answers ranked higher", "偏好回答排序准确率")], ["reward", say("Reward", "奖励")],
  ["kl", say("KL divergence", "KL 散度")], ["completions/mean_length", say("Answer length (tokens)", "回答长度（token）")],
  ["token_accuracy", say("Token accuracy", "token 准确率")], ["perplexity", say("Perplexity", "困惑度")],
];
const WORK = [
  ["learning_rate", say("Learning rate", "学习率")], ["grad_norm", say("Gradient norm", "梯度范数")],
  ["tokens_per_s", say("Tokens per second", "每秒 token 数")], ["memory_gb", say("Memory (GB)", "内存（GB）")],
];
const OTHERS = [
  ["entropy", say("Entropy", "熵")],
  ["rewards/chosen", say("Reward of preferred answers", "偏好回答的奖励")], ["rewards/rejected", say("Reward of rejected answers", "被拒回答的奖励")],
  ["logps/chosen", say("Log probability of preferred answers", "偏好回答的对数概率")], ["logps/rejected", say("Log probability of rejected answers", "被拒回答的对数概率")],
];
const TITLES = Object.fromEntries([...WATCHED, ...WORK, ...OTHERS]);
const root = element.querySelector(".curves");
const note = element.querySelector(".curves-empty");
const main = root.appendChild(document.createElement("div"));
const fold = root.appendChild(document.createElement("details"));
const folded = document.createElement("div");
fold.append(document.createElement("summary"), folded);
const WAITING_WORDS = say(note.textContent, "还没有步数。训练一开始，第一个点就会出现在这里。");
let run = null, cursor = 0, ema = null, points = 0, drawn = false, busy = false, live = true, ticks = 0, best = null;
let known = [], panels = new Map(); // names of all series; of each panel its traces

// A series belongs to the panel of its figure: "loss", "eval_loss", and "eval_loss NAME" of a set validated by itself.
function placeOf(name) {
  if (name === "loss_smoothed") return { base: "loss", label: say("smoothed", "平滑") };
  const [, base, dataset] = name.match(/^eval_(\S+)(?: (.*))?$/) ?? [];
  if (base) return { base, label: dataset ?? say("validation", "验证"), evaluated: true, dataset };
  return { base: name, label: name === "loss" ? "loss" : say("training", "训练") };
}

function rankOf(base) {
  const first = WATCHED.findIndex(([name]) => name === base), last = WORK.findIndex(([name]) => name === base);
  return first >= 0 ? first : last >= 0 ? 2000 + last : 1000;
}

function arrange() {
  panels = new Map();
  for (const name of known) {
    const place = placeOf(name);
    panels.set(place.base, [...(panels.get(place.base) ?? []), { name, ...place }]);
  }
  const order = { loss: 0, loss_smoothed: 1 };
  for (const traces of panels.values()) traces.sort((a, b) => (order[a.name] ?? 2) - (order[b.name] ?? 2));
  panels = new Map([...panels].sort(([a], [b]) => rankOf(a) - rankOf(b) || a.localeCompare(b)));
}

const isFolded = (base) => panels.size > PANELS_MAX && rankOf(base) === 1000;

function style({ name, base, evaluated, dataset }) {
  if (name === "loss") return { line: { width: 1, color: color("--curve-faint") } };
  if (dataset) return { line: { width: 1.5, dash: "dot" } };
  if (evaluated) return { line: { width: 1.5, color: color("--curve-second") } };
  return { line: { width: base === "loss" ? 2 : 1.5, color: color("--curve-main") } };
}

// the checkpoint that the output is of, on the figure it was chosen by
function marksOf(base) {
  if (best?.metric !== base) return {};
  const line = { type: "line", x0: best.step, x1: best.step, yref: "paper", y0: 0, y1: 1, line: { width: 1, dash: "dash", color: color("--curve-second") } };
  const text = say(`best: step ${best.step}`, `最佳：第 ${best.step} 步`);
  return { shapes: [line], annotations: [{ x: best.step, yref: "paper", y: 1, yanchor: "top", text, showarrow: false, font: { color: color("--curve-second") } }] };
}

function layout(base) {
  const plain = plainLayout(TITLES[base] ?? base, say("step", "步"), base === "loss" ? 320 : 220);
  plain.yaxis.exponentformat = "power";
  if (base === "learning_rate") plain.yaxis.rangemode = "tozero"; // or a constant one looks like 0 between -1 and 1
  if (base === "perplexity") plain.yaxis.type = "log"; // its first values would hide all others
  return { ...plain, ...marksOf(base), showlegend: panels.get(base).length > 1, hovermode: "x unified", uirevision: run };
}

const CONFIG = {
  responsive: true, displaylogo: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  modeBarButtonsToAdd: [{
    name: "Logarithmic", title: say("Logarithmic / linear scale", "对数 / 线性坐标"), icon: { width: 24, height: 24, path: "M3 21V3h2v16h16v2zM7 17c6 0 8-4 9-12h2c-1 9-4 14-11 14z" },
    click: (plot) => window.Plotly.relayout(plot, { "yaxis.type": plot.layout.yaxis.type === "log" ? "linear" : "log" }),
  }],
};

const plotOf = (base) => root.querySelector(`[data-panel="${CSS.escape(base)}"]`);

// The element of a panel, in its place; null while it is folded away: a hidden chart has no width.
function placed(base, index) {
  const home = isFolded(base) ? folded : main;
  let plot = plotOf(base);
  if (home === folded && !fold.open) return plot?.remove(), null;
  if (!plot) {
    plot = document.createElement("div");
    plot.dataset.panel = base;
  }
  if (home.children[index] !== plot) home.insertBefore(plot, home.children[index] ?? null);
  return plot;
}

function traced(series) {
  return (trace) => {
    const [x, y] = series[trace.name] ?? [[], []];
    const few = trace.evaluated || x.length < 40; // a lone point has no line
    return { type: "scatter", mode: few ? "lines+markers" : "lines", marker: { size: 4 }, name: trace.label, x, y, ...style(trace) };
  };
}

async function draw(series) {
  const about = run, library = await plotly();
  const bases = [...panels.keys()], hidden = bases.filter(isFolded);
  fold.hidden = !hidden.length;
  fold.firstChild.textContent = say(`${hidden.length} more figures`, `另外 ${hidden.length} 项指标`);
  for (const base of bases) {
    if (about !== run) return; // another run was chosen meanwhile: all of this is about the one before
    const group = isFolded(base) ? hidden : bases.filter((each) => !isFolded(each));
    const plot = placed(base, group.indexOf(base));
    if (plot) await library.react(plot, panels.get(base).map(traced(series)), layout(base), CONFIG);
  }
  if (about === run) drawn = true;
}

async function extend(series) {
  const library = await plotly();
  if (series.loss) series.loss_smoothed = [series.loss[0], series.loss[1].map(smooth)];
  for (const [base, traces] of panels) {
    const plot = plotOf(base);
    const indices = traces.map(({ name }, index) => (series[name] ? index : -1)).filter((index) => index >= 0);
    if (!indices.length || !plot) continue;
    const names = indices.map((index) => traces[index].name);
    const update = { x: names.map((name) => series[name][0]), y: names.map((name) => series[name][1]) };
    await library.extendTraces(plot, update, indices);
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
  note.textContent = live ? WAITING_WORDS : say("This run made no step.", "该运行没有完成任何一步。");
  const count = answer.series.loss?.[0].length ?? 0;
  const fresh = Object.keys(answer.series).filter((name) => !known.includes(name));
  const chosen = JSON.stringify(answer.best) !== JSON.stringify(best);
  known.push(...fresh);
  best = answer.best;
  if (fresh.length) arrange();
  if ((fresh.length || chosen) && drawn) {
    cursor = 0; // one trace or mark more: draw the whole run anew
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
  if (asked !== run) return;
  if (drawn || count === 0) cursor = drawn ? answer.cursor : 0;
  if (points > POINTS_MAX) cursor = 0; // thin again: the server sends the whole run within its budget
  element.dataset.points = points;
}

function show(name) {
  run = name || null;
  cursor = 0; ema = null; points = 0; drawn = false; live = true; ticks = 0; best = null; known = []; panels = new Map();
  element.dataset.points = 0;
  element.dataset.run = run ?? "";
  main.replaceChildren();
  folded.replaceChildren();
  root.hidden = true;
  note.hidden = false;
  note.textContent = "";
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

function again() {
  if (drawn) { cursor = 0; ticks = 0; tick(); }
}

watch("value", () => { if (props.value !== run) show(props.value); });
fold.addEventListener("toggle", again);
new MutationObserver(again).observe(document.body, { attributes: true, attributeFilter: ["class"] });
show(props.value);
const timer = setInterval(() => element.isConnected ? tick() : clearInterval(timer), TICK_MS);
