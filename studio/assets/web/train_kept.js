// What differs from the defaults in the Train form, kept in this browser for the next page.
const KEY = "seedbed:train", NOTHING = "{}";

// a browser may be told to keep nothing
function stored() {
  try {
    return localStorage.getItem(KEY) ?? NOTHING;
  } catch {
    return NOTHING;
  }
}

function store(draft) {
  known = draft;
  try {
    draft === NOTHING ? localStorage.removeItem(KEY) : localStorage.setItem(KEY, draft);
  } catch {
    // full or forbidden: the form works without
  }
}

// What this page last read or wrote: a look at the same values again leaves alone what another page wrote meanwhile.
let known = stored();
// The first looks may be at a form that what was kept has not reached yet.
let isFilled = known === NOTHING;

function keep({ detail: draft }) {
  isFilled ||= draft !== NOTHING;
  if (isFilled && draft !== known) store(draft);
}

function forget() {
  isFilled = true;
  store(NOTHING);
}

listen(document, "seedbed:draft", keep);
listen(document, "seedbed:afresh", forget);
if (!isFilled) trigger("found", { text: known });
