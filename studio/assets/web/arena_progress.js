// How far an arena is: its bar while it runs, what is missing once it has ended.
let shownFor = "", stamp = "", told = null, offered = 0, acting = "";
const words = make("div", ""), acts = make("div", "panel-actions");

function doer(id, label, act) {
  const made = button(label, async () => {
    made.disabled = true;
    const answer = await act();
    if (answer?.error) acts.append(make("span", "fault", answer.error));
    else if (answer?.run) trigger("end", { run: answer.run });
    now();
  });
  made.id = id;
  return made;
}

// A button stays the same node for as long as it does the same, so that it can be pressed while the bar moves.
function drawActs() {
  const next = told.active ? "stop" : told.can_go_on ? "go on" : "";
  if (next === acting) return;
  acting = next;
  acts.replaceChildren();
  if (next === "stop") acts.append(doer("arena-stop", say("Stop", "停止"), () => server.stop(shownFor)));
  if (next === "go on") acts.append(doer("arena-go-on", say("Ask for what is missing", "补齐缺失部分"), () => server.go_on(shownFor)));
}

// A page that shows no battle gets the first new one; one that does is not disturbed.
function offer() {
  const isShown = document.getElementById("arena-vote-left")?.offsetParent;
  if (told.battles > offered && !isShown) trigger("select", { battles: told.battles });
  offered = told.battles;
}

function forget(source) {
  [shownFor, stamp, told, offered, acting] = [source, "", null, 0, ""];
  words.replaceChildren();
  acts.replaceChildren();
  box.replaceChildren(words, acts);
}

async function ask() {
  const source = props.value;
  if (source !== shownFor) forget(source);
  if (!source) return false;
  const answer = await server.look([source, stamp]);
  if (source !== props.value) return true;
  if (answer?.error) words.replaceChildren(card("bad", answer.error));
  else if (answer) {
    ({ stamp } = answer);
    told = answer;
    words.innerHTML = told.html; // escaped by the server
    drawActs();
    offer();
  }
  return told?.active;
}

const now = keepAsking(ask);
