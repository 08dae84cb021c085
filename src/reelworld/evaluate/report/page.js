"use strict";
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});
// Videos run only while they can be seen, and not at all for people who asked for less motion.
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const paused = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || calm || paused.has(target)) target.pause();
    else target.play().catch(() => {});
  }
});
const toggle = (video) => {
  if (video.paused) paused.delete(video), video.play().catch(() => {});
  else paused.add(video), video.pause();
};
// Enlarged pixels stay squares; a picture shown smaller than it is would lose whole rows of them that way.
const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => sharpen(target)));
const sharpen = (video) => video.classList.toggle("shrunk", video.clientWidth * devicePixelRatio < video.videoWidth);
document.querySelectorAll("video").forEach((video) => {
  watcher.observe(video);
  sizes.observe(video);
  video.addEventListener("loadedmetadata", () => sharpen(video));
  video.addEventListener("click", () => toggle(video));
  const button = video.parentElement.querySelector("button");
  if (calm) button.textContent = "play";
  button.addEventListener("click", () => toggle(video));
  video.addEventListener("play", () => (button.textContent = "pause"));
  video.addEventListener("pause", () => (button.textContent = "play"));
});
