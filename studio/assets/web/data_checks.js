// What a check found in the chosen dataset. The server sends the report; rows lead to the Rows tab, ticked repairs
// become a new dataset.
let shownFor = null, stamp = "", left = new Set(), share = "";

function figures(report) {
  const seconds = report.seconds < 10 ? Math.max(0.1, report.seconds).toFixed(1) : count(Math.round(report.seconds));
  const parts = [
    `${count(report.rows)} ${say("rows", "行")}`,
    `${count(report.usable)} ${say("usable", "可用")}`,
    say(`checked in ${seconds} s`, `检查用时 ${seconds} 秒`),
  ];
  const near = report.near_duplicate_threshold, from = `${+(100 * near).toFixed(1)}%`;
  if (near !== null) parts.push(say(`near-duplicates searched from ${from}`, `已查找近似重复（≥ ${from}）`));
  return parts.join(" · ");
}

function tick([repair, english, chinese], changed) {
  const box = make("input");
  box.type = "checkbox";
  box.checked = !left.has(repair);
  box.dataset.repair = repair;
  box.addEventListener("change", () => {
    left[box.checked ? "delete" : "add"](repair);
    changed();
  });
  return make("label", "", box, say(english, chinese));
}

// The repairs that help, ticked: one click writes a new dataset.
function repairs(report, name) {
  const ticked = () => report.repairs.map(([repair]) => repair).filter((repair) => !left.has(repair));
  const act = button(say("Repair", "修复"), () => begin(() => server.repair(name, ticked())), "primary");
  act.id = "data-repair";
  const changed = () => { act.disabled = ticked().length === 0; };
  const ticks = report.repairs.map((repair) => tick(repair, changed));
  const told = say(`writes a new dataset, ${name}-repaired; this one stays as it is`, `写入新数据集 ${name}-repaired，原数据不变`);
  changed();
  return make("div", "repairs", ...ticks, make("div", "panel-actions", act, make("small", "", told)));
}

// What share of their text two rows have in common to count as near-duplicates, in percent.
function shareField(from) {
  const field = make("input", "short");
  Object.assign(field, { type: "number", min: 1, max: 100, step: 1, id: "data-share", value: share || +(100 * from).toFixed(1) });
  field.addEventListener("input", () => { share = field.value; });
  return field;
}

function actions(name, report, busy, from) {
  const again = report ? say("Check again", "重新检查") : say("Check now", "立即检查");
  const check = button(again, () => begin(() => server.check(name, null)), report ? "" : "primary");
  check.id = "data-check";
  const field = shareField(from);
  const near = button(say("Search near-duplicates", "查找近似重复"), () => begin(() => server.check(name, field.value / 100)));
  near.id = "data-near";
  check.disabled = near.disabled = busy;
  const label = make("label", "", say("alike by at least ", "相似度至少 "), field, " %");
  return make("div", "panel-actions", check, near, label);
}

async function begin(start) {
  for (const act of box.querySelectorAll("button")) act.disabled = true;
  const answer = await start();
  stamp = "";
  if (answer.error) return box.prepend(card("bad", answer.error));
  showWork();
  now();
}

function draw(name, { error, report, busy, share: from }) {
  if (error) return box.replaceChildren(card("bad", error));
  const parts = [actions(name, report, busy, from)];
  if (!report) parts.push(hint(busy ? say("Every row is being checked …", "正在检查每一行…")
    : say("Not checked yet. A check reads every row and says which ones would spoil a training.", "尚未检查。检查会读取每一行并指出会影响训练的数据。")));
  else parts.push(make("p", "panel-figures", figures(report)), ...found(report, name));
  box.replaceChildren(...parts);
}

function found(report, name) {
  const rows = count(report.rows);
  const sound = card("good", say(`Nothing wrong found in ${rows} rows.`, `检查了 ${rows} 行，未发现问题。`));
  if (report.fatal) return [card("bad", report.fatal), ...listed(report, name)];
  return [...(report.findings.every(({ severity }) => severity === "info") ? [sound] : []), ...listed(report, name)];
}

function listed(report, name) {
  return [...(report.repairs.length ? [repairs(report, name)] : []), ...report.findings.map(findingCard)];
}

async function ask() {
  const name = props.value;
  if (name !== shownFor) { stamp = ""; shownFor = name; left = new Set(); share = ""; box.replaceChildren(); }
  if (!name) return false;
  const answer = await server.look(name, stamp);
  if (answer && name === props.value) {
    stamp = answer.stamp ?? "";
    element.dataset.busy = Boolean(answer.busy);
    draw(name, answer);
  }
  return element.dataset.busy === "true";
}

const now = keepAsking(ask);
