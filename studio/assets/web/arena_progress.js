// How far an arena is: its bar while it runs, what is missing once it has ended.
let shownFor = "", stamp = "", told = null, offered = 0;

function doer(label, act) {
  const made = button(label, async () => {
    made.disabled = true;
    const answer = await act();
    if (answer?.error) made.replaceWith(make("span", "fault", answer.error));
    else if (answer?.run) trigger("end", { run: answer.run });
    now();
  });
  return made;
}

function draw() {
  const whole = make("div", "");
  whole.innerHTML = told.html; // escaped by the server
  const stop = doer(say("Stop", "停止"), () => server.stop(shownFor));
  const goOn = doer(say("Ask for what is missing", "补齐缺失部分"), () => server.go_on(shownFor));
  stop.id = "arena-stop";
  goOn.id = "arena-go-on";
  if (told.active) whole.append(make("div", "panel-actions", stop));
  else if (told.can_go_on) whole.append(make("div", "panel-actions", goOn));
  box.replaceChildren(whole);
}

// A page that shows no battle gets the first new one; one that does is not disturbed.
function offer() {
  const isShown = document.getElementById("arena-vote-left")?.offsetParent;
  if (told.battles > offered && !isShown) trigger("select", { battles: told.battles });
  offered = told.battles;
}

async function ask() {
  const source = props.value;
  if (source !== shownFor) {
    [shownFor, stamp, told, offered] = [source, "", null, 0];
    box.replaceChildren();
  }
  if (!source) return false;
  const answer = await server.look([source, stamp]);
  if (source !== props.value) return true;
  if (answer?.error) box.replaceChildren(card("bad", answer.error));
  else if (answer) {
    stamp = answer.stamp;
    told = answer;
    draw();
    offer();
  }
  return told?.active;
}

const now = keepAsking(ask);
