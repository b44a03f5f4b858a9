// Two sides, and the line between them: dragged, or moved by the arrow keys.

const STEP = 2;
const LEAP = 10;

export class Swipe {
  constructor(stage, left, open) {
    this.stage = stage;
    this.left = left;
    this.open = open;
    this.handle = stage.querySelector("#swipe");
    this.frame = stage.querySelector("#right");
    this.at = 50;
    this.handle.addEventListener("keydown", (event) => this.#key(event));
    this.handle.addEventListener("pointerdown", (event) => this.handle.setPointerCapture(event.pointerId));
    this.handle.addEventListener("pointermove", (event) => this.handle.hasPointerCapture(event.pointerId) && this.#drag(event));
  }

  /** Show the right side that was chosen: "", "imagery", "imagery ID" or "map ID". */
  show(choice) {
    const on = choice.compare !== "";
    this.frame.hidden = this.handle.hidden = !on;
    if (!on) {
      return;
    }
    if (!this.right) {
      this.right = this.open();
      this.left.map.on("move", () => this.#follow());
    }
    this.right.map.resize();
    this.#follow();
    const [what, id] = choice.compare.split(" ");
    const shown = { ...choice, outlines: [], measure: "", map: what === "map" ? id : "" };
    if (what === "imagery" && id) {
      shown.imagery = id;
      shown.map = choice.map;
    }
    this.right.show(shown);
    this.#move(this.at);
  }

  #follow() {
    if (this.frame.hidden) {
      return;
    }
    this.right.map.jumpTo({ center: this.left.map.getCenter(), zoom: this.left.map.getZoom() });
  }

  #key(event) {
    const steps = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, PageDown: -LEAP, PageUp: LEAP, Home: -100, End: 100 };
    if (event.key in steps) {
      event.preventDefault();
      this.#move(this.at + steps[event.key]);
    }
  }

  #drag(event) {
    const box = this.stage.getBoundingClientRect();
    this.#move((100 * (event.clientX - box.left)) / box.width);
  }

  #move(place) {
    this.at = Math.min(100, Math.max(0, place));
    this.handle.style.left = `${this.at}%`;
    this.frame.style.clipPath = `inset(0 0 0 ${this.at}%)`;
    this.handle.setAttribute("aria-valuenow", Math.round(this.at));
    this.handle.setAttribute("aria-valuetext", `${Math.round(this.at)} % shows the left side`);
  }
}
