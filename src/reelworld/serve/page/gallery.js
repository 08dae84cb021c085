// Gallery: one card per world, with its animation and a link to play it.

const token = new URLSearchParams(location.search).get("token");

/** Return an address of this server, with the token if there is one. */
function address(path, world) {
  const query = new URLSearchParams({ world, ...(token ? { token } : {}) });
  return `${path}?${query}`;
}

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function card(world) {
  const image = make("img");
  image.alt = "";
  image.src = world.preview ? address("api/preview", world.id) : "icon.svg";
  const facts = [world.system, `${world.width}\u00d7${world.height}`, world.actions ? `${world.actions} actions` : "no actions"];
  const words = make("div", "", make("h2", "", world.name), make("p", "", facts.filter(Boolean).join(", ")), make("p", "", world.run.toLowerCase() === world.name.toLowerCase() ? "" : world.run));
  const link = make("a", "world");
  link.href = address("play", world.id);
  link.ariaLabel = `Play ${world.name}`;
  link.append(make("div", world.preview ? "picture" : "picture is-empty", image), make("div", "words", words, make("span", "go", "Play")));
  const item = make("li", "", link);
  if (world.card) item.append(make("details", "", make("summary", "", "About this world"), make("pre", "", world.card)));
  return item;
}

try {
  const answer = await fetch(`api/worlds${location.search}`);
  if (!answer.ok) throw new Error(await answer.text());
  const { worlds } = await answer.json();
  document.getElementById("worlds").replaceChildren(...worlds.map(card));
} catch (error) {
  document.getElementById("status").textContent = error.message || "The server does not respond.";
}
