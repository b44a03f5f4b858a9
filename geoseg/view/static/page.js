// The page: asks what there is, then keeps map, panel, swipe and readout in step with what the user chose.

import { Side } from "./layers.js";
import { buildPanel, showAreas, showStatus } from "./panel.js";
import { Readout } from "./readout.js";
import { Swipe } from "./swipe.js";

/** The answer to a relative address as JSON; an Error with the server's sentence where there is none. */
export async function ask(address, options) {
  const answer = await fetch(address, options);
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(typeof said.detail === "string" ? said.detail : `the server answered ${answer.status}`);
  }
  return answer.json();
}

/** West, south, east and north of all that is shown. */
function union(boxes) {
  const at = (place, choose) => choose(...boxes.map((box) => box[place]));
  return [at(0, Math.min), at(1, Math.min), at(2, Math.max), at(3, Math.max)];
}

/** What the user has chosen, at first. */
function firstChoice(about) {
  const map = about.maps[0] ?? null;
  const imagery = about.imagery[0] ?? null;
  return {
    imagery: imagery?.id ?? "",
    cut: imagery?.cut ?? 2,
    gamma: 1,
    map: map?.id ?? "",
    opacity: 0.65,
    outlines: [],
    measure: "",
    measureOpacity: 0.9,
    compare: "",
  };
}

async function main() {
  const about = await ask("about");
  document.title = `${about.title} – geoseg view`;
  const bounds = union([...about.maps, ...about.scenes, ...about.imagery].map((one) => one.bounds));
  const choice = firstChoice(about);
  const stage = document.getElementById("stage");
  const told = (error) => showStatus(error.message);

  const left = new Side("left", about, bounds, { controls: true, told });
  const swipe = new Swipe(stage, left, () => new Side("right", about, bounds, { controls: false, told }));
  const readout = new Readout(stage, left.map, about, () => choice, told);

  function refresh(changes) {
    const before = { ...choice };
    Object.assign(choice, changes);
    if (choice.map !== before.map) {
      choice.outlines = [];
      choice.measure = "";
      if (before.map && choice.imagery.startsWith(`${before.map}-`)) {
        choice.imagery = about.imagery.find((one) => one.id.startsWith(`${choice.map}-`))?.id ?? choice.imagery;
      }
    }
    if (choice.imagery !== before.imagery) {
      choice.cut = about.imagery.find((one) => one.id === choice.imagery)?.cut ?? choice.cut;
    }
    left.show({ ...choice, measure: choice.measure, outlines: choice.outlines });
    swipe.show(choice);
    panel.refresh(choice);
    if (choice.map !== before.map || !before.started) {
      showAreas(about.maps.find((one) => one.id === choice.map), null);
      if (choice.map) {
        const asked = choice.map;
        ask(`areas/${asked}`).then((rows) => asked === choice.map && showAreas(about.maps.find((one) => one.id === asked), rows), told);
      }
    }
    choice.started = true;
  }

  const panel = buildPanel(about, refresh);
  left.whenOutlinesChange((shown, there) => panel.tellOutlines(shown, there));
  refresh({});
  readout.start();
  stage.dataset.ready = "yes";
}

main().catch((error) => showStatus(error.message));
