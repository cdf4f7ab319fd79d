// Comfort only: submits when a photograph is dropped or chosen, and says that it is under way.

const form = document.getElementById("ask"), photo = document.getElementById("photo");
const drop = document.getElementById("drop");
form.addEventListener("submit", () => {
  document.getElementById("busy").textContent = "Looking at it …";
  document.getElementById("go").disabled = true;
});
photo.addEventListener("change", () => { if (photo.files.length) form.requestSubmit(); });
for (const name of ["dragover", "dragleave", "drop"]) drop.addEventListener(name, event => {
  event.preventDefault();
  drop.classList.toggle("over", name === "dragover");
});
drop.addEventListener("drop", event => {
  if (event.dataTransfer.files.length) { photo.files = event.dataTransfer.files; form.requestSubmit(); }
});
window.addEventListener("pageshow", () => {
  document.getElementById("busy").textContent = "";
  document.getElementById("go").disabled = false;
});
