// What a run said beside its curves: its notes, and how its answers to the same prompts changed, the latest first.
const OPEN = 2; // answers of a prompt that are in sight at once
const PROMPTS_MAX = 12; // a training by rewards has ever new ones: the latest are kept in sight
const CALM_LOOKS = 4; // an ended run is looked at every fifth time
let run = null, cursor = 0, notes = [], prompts = new Map(), calm = 0;

// answers in a row that are the same are one, with the steps from the first to the last
function take({ step, prompt, answer }) {
  const answers = prompts.get(prompt) ?? [];
  const last = answers[0];
  if (last?.answer === answer) last.to = step;
  else answers.unshift({ from: step, to: step, answer });
  prompts.set(prompt, answers);
}

function answered({ from, to, answer }) {
  const steps = from === to ? `${say("step", "第")} ${to}${say("", " 步")}` : `${say("steps", "第")} ${from}–${to}${say("", " 步")}`;
  const text = make("span", answer ? "" : "empty-answer", answer || say("(nothing)", "（空）"));
  return make("li", "", make("small", "", steps), text);
}

function asked([prompt, answers]) {
  const made = make("section", "sample", make("h4", "", prompt), make("ol", "", ...answers.slice(0, OPEN).map(answered)));
  if (answers.length > OPEN) {
    const earlier = answers.slice(OPEN), words = say(`${earlier.length} earlier`, `更早的 ${earlier.length} 个`);
    made.append(make("details", "", make("summary", "", words), make("ol", "", ...earlier.map(answered))));
  }
  return made;
}

function draw() {
  const open = [...box.querySelectorAll("details")].map((each) => each.open);
  const latest = prompts.size > PROMPTS_MAX ? [...prompts].reverse().slice(0, PROMPTS_MAX) : [...prompts];
  const samples = latest.map(asked);
  const title = make("h3", "", say("Answers on the way", "训练中的回答"));
  document.querySelector("#run-notes .notes")
    .replaceChildren(...notes.map(({ level, text }) => card(level === "warning" ? "wait" : "", text)));
  box.replaceChildren(...(samples.length ? [title, make("div", "samples", ...samples)] : []));
  box.querySelectorAll("details").forEach((each, index) => { each.open = open[index] ?? false; });
}

function show(id) {
  run = id || null;
  cursor = 0; calm = 0; notes = []; prompts = new Map();
  draw();
}

async function ask() {
  if ((props.value || null) !== run) show(props.value);
  if (!run || calm-- > 0) return false;
  const asked = run, answer = await server.remarks(asked, cursor);
  if (asked !== run || !answer) return false;
  calm = answer.live ? 0 : CALM_LOOKS;
  cursor = answer.cursor;
  answer.samples.forEach(take);
  notes.push(...answer.notes);
  if (answer.samples.length || answer.notes.length) draw();
  return false;
}

keepAsking(ask);
