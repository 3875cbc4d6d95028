// The page's behaviour: lists, adds and deletes notes through the JSON API, and follows the event stream.
const list = document.querySelector("#notes");
const form = document.querySelector("#new");
const message = document.querySelector("#message");
const live = document.querySelector("#live");

function show(note) {
  const time = document.createElement("time");
  time.dateTime = note.created_at;
  time.textContent = new Date(note.created_at).toLocaleString();
  const text = document.createElement("p");
  text.textContent = note.text;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Delete";
  button.setAttribute("aria-label", `Delete note: ${note.text.slice(0, 60)}`);
  button.addEventListener("click", () => act("Note deleted.", `/api/notes/${note.id}`, { method: "DELETE" }));
  const item = document.createElement("li");
  item.append(text, time, button);
  return item;
}

async function refresh() {
  const response = await fetch("/api/notes");
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  const notes = await response.json();
  list.replaceChildren(...notes.map(show));
  document.querySelector("#empty").hidden = notes.length > 0;
}

async function act(done, url, request) {
  try {
    if (url) {
      const response = await fetch(url, request);
      // Gone already is as good as deleted.
      if (!response.ok && response.status !== 404) throw new Error(`the server answered ${response.status}`);
    }
    await refresh();
    message.textContent = done;
    return true;
  } catch (error) {
    message.textContent = `That did not work: ${error.message}.`;
    return false;
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ text: form.text.value });
  const headers = { "Content-Type": "application/json" };
  if (await act("Note added.", "/api/notes", { method: "POST", headers, body })) form.reset();
  form.text.focus();
});

const events = new EventSource("/api/events");
events.addEventListener("error", () => (live.textContent = "reconnecting …"));
events.addEventListener("tick", (event) => {
  const { tick, release } = JSON.parse(event.data);
  live.textContent = `live, tick ${tick}`;
  document.querySelector("#update").hidden = !release || release === document.documentElement.dataset.release;
});

act("");
