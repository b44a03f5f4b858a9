// What is at the pointer, or in the middle of the map while the keyboard moves it.

import { area, make, short } from "./panel.js";

const WAIT_MS = 60;

export class Readout {
  constructor(stage, map, about, choice, told) {
    this.map = map;
    this.about = about;
    this.choice = choice;
    this.told = told;
    this.box = stage.querySelector("#readout");
    this.cross = stage.querySelector("#cross");
  }

  start() {
    const canvas = this.map.getCanvas();
    const byKeyboard = () => canvas.matches(":focus-visible");
    const middle = () => byKeyboard() && this.#soon(this.map.getCenter());
    this.map.on("mousemove", (event) => this.#soon(event.lngLat));
    this.map.on("click", (event) => this.#soon(event.lngLat));
    this.map.on("moveend", middle);
    canvas.addEventListener("focus", () => {
      this.cross.hidden = !byKeyboard();
      middle();
    });
    canvas.addEventListener("blur", () => (this.cross.hidden = true));
    canvas.addEventListener("pointermove", () => (this.cross.hidden = true));
    canvas.addEventListener("keydown", () => (this.cross.hidden = !byKeyboard()));
  }

  /** Ask for a place; of several in a short time the last, and one after the other. */
  #soon(place) {
    this.place = place;
    if (!this.busy) {
      this.busy = true;
      this.#ask().finally(() => (this.busy = false));
    }
  }

  async #ask() {
    while (this.place) {
      const { lng, lat } = this.place;
      this.place = null;
      const answer = await fetch(`values?lng=${lng}&lat=${lat}`).catch(() => null);
      const said = await answer?.json().catch(() => null);
      if (!answer?.ok) {
        this.told(new Error(said?.detail ?? "geoseg view no longer answers; start it again"));
        return;
      }
      this.#show(said);
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
    }
  }

  #show(said) {
    const choice = this.choice();
    const maps = this.about.maps.filter((one) => one.id === choice.map || choice.compare === `map ${one.id}`);
    const imagery = [choice.imagery, choice.compare.replace("imagery ", "")].map((id) => id.split("-")[0]);
    const scenes = this.about.scenes.filter((one) => imagery.includes(one.id));
    const parts = [
      ...maps.map((one) => mapPart(one, said.places[one.id], maps.length > 1)),
      ...scenes.map((one) => scenePart(one, said.places[one.id])),
    ].filter(Boolean);
    const where = Object.values(said.places)[0];
    parts.push(wherePart(said, where));
    this.box.replaceChildren(...parts);
    this.box.setAttribute("aria-live", this.cross.hidden ? "off" : "polite");
    this.box.hidden = false;
  }
}

function part(title, rows) {
  const list = make("dl");
  for (const [name, ...value] of rows) {
    list.append(make("dt", {}, name), make("dd", {}, ...value));
  }
  return make("div", { class: "part" }, ...(title ? [make("h3", {}, title)] : []), list);
}

function mapPart(map, said, several) {
  if (!said) {
    return null;
  }
  const rows = [];
  if (said.class) {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = said.class.colour;
    rows.push(["class", swatch, said.class.name]);
  } else {
    rows.push(["class", said.why ? `none: ${said.why}` : "none"]);
  }
  if (said.score) {
    rows.push([said.score.calibrated ? "score" : "uncalibrated score", said.score.value.toFixed(3)]);
  }
  for (const layer of said.layers) {
    rows.push([layer.title, typeof layer.says === "number" ? short(layer.says) : layer.says]);
  }
  if (said.polygon?.area_m2 != null) {
    rows.push(["polygon", area(said.polygon.area_m2)]);
  }
  return part(several ? map.title : "", rows);
}

function scenePart(scene, said) {
  if (!said) {
    return null;
  }
  return part("", said.bands.map((band) => [band.role, band.value === null ? "no data" : `${short(band.value)} ${band.unit}`]));
}

function wherePart(said, where) {
  const degrees = (value, signs) => `${Math.abs(value).toFixed(5)}° ${signs[value < 0 ? 1 : 0]}`;
  const metres = (value) => value.toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 }).replaceAll(",", " ");
  const plain = (value) => (Math.abs(where.x) <= 360 ? value.toFixed(6) : metres(value));
  const rows = where ? [[where.crs, `${plain(where.x)}, ${plain(where.y)}`]] : [];
  rows.push(["lon, lat", `${degrees(said.lng, "EW")}, ${degrees(said.lat, "NS")}`]);
  return part("", rows);
}
