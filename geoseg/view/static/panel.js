// The panel: controls, legend with areas, files. Every text is set as text, never as HTML.

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function showStatus(text) {
  $("status").textContent = text;
  $("status").hidden = false;
}

function option(value, text) {
  return make("option", { value }, text);
}

/** Options of imagery, grouped by what it is of where there is more than one such thing. */
function imageryOptions(about) {
  const groups = new Map();
  for (const one of about.imagery) {
    groups.set(one.of, [...(groups.get(one.of) ?? []), option(one.id, one.title)]);
  }
  return [...groups].flatMap(([of, options]) => (groups.size > 1 ? [make("optgroup", { label: of }, ...options)] : options));
}

function compareOptions(about, choice) {
  const sides = [option("", "nothing")];
  if (choice.imagery && choice.map) {
    sides.push(option("imagery", "imagery alone"));
  }
  for (const one of about.maps.filter((one) => one.id !== choice.map)) {
    sides.push(option(`map ${one.id}`, `map: ${one.title}`));
  }
  for (const one of about.imagery.filter((one) => one.id !== choice.imagery)) {
    sides.push(option(`imagery ${one.id}`, `${one.title.toLowerCase()}${about.imagery.length > 3 ? ` of ${one.of}` : ""}`));
  }
  return sides;
}

function facts(about) {
  const told = [];
  for (const one of [...about.maps, ...about.scenes]) {
    told.push(...[one.time?.slice(0, 10), one.model ?? one.sensor].filter(Boolean));
  }
  return [...new Set(told), ...about.credits].join(" · ");
}

/** Fill the panel and wire it: `changed` is called with what the user changed. Returns how to bring it up to date. */
export function buildPanel(about, changed) {
  $("title").textContent = about.title;
  $("facts").textContent = facts(about);
  $("imagery").append(...imageryOptions(about), option("", "none"));
  $("chosen").append(...about.maps.map((one) => option(one.id, one.title)));
  $("map-section").hidden = about.maps.length === 0;
  $("map-choice").hidden = about.maps.length < 2;
  fillFiles(about);

  $("imagery").addEventListener("change", (event) => changed({ imagery: event.target.value }));
  $("chosen").addEventListener("change", (event) => changed({ map: event.target.value }));
  $("measure").addEventListener("change", (event) => changed({ measure: event.target.value }));
  $("compare").addEventListener("change", (event) => changed({ compare: event.target.value }));
  $("cut").addEventListener("change", (event) => changed({ cut: Number(event.target.value) }));
  $("gamma").addEventListener("change", (event) => changed({ gamma: Number(event.target.value) }));
  $("opacity").addEventListener("input", (event) => changed({ opacity: event.target.value / 100 }));
  $("measure-opacity").addEventListener("input", (event) => changed({ measureOpacity: event.target.value / 100 }));
  for (const range of document.querySelectorAll("#panel input[type=range]")) {
    range.addEventListener("input", () => tell(range));
  }

  let map = null;
  return {
    refresh(choice) {
      if (map !== choice.map) {
        map = choice.map;
        const chosen = about.maps.find((one) => one.id === map);
        fillMeasures(chosen);
        fillOutlines(chosen, changed);
        $("outlines").hidden = !chosen?.outlines.length;
      }
      $("compare").replaceChildren(...compareOptions(about, choice));
      $("compare").value = choice.compare;
      $("compare-section").hidden = $("compare").options.length < 2;
      $("imagery").value = choice.imagery;
      $("chosen").value = choice.map;
      $("measure").value = choice.measure;
      for (const [id, value] of [["cut", choice.cut], ["gamma", choice.gamma], ["opacity", 100 * choice.opacity], ["measure-opacity", 100 * choice.measureOpacity]]) {
        $(id).value = value;
        tell($(id));
      }
      $("cut").disabled = $("gamma").disabled = !choice.imagery;
      $("measure-opacity").disabled = !choice.measure;
      showMeasureLegend(about, about.maps.find((one) => one.id === map)?.layers.find((one) => one.id === choice.measure));
    },
    tellOutlines(shown, there) {
      $("outline-count").hidden = there === null || shown === there;
      $("outline-count").textContent = there === null ? "" : `${count(shown)} of the ${count(there)} here are drawn; enlarge the map for the others.`;
    },
  };
}

/** A slider's value in words. */
function tell(range) {
  const words = { gamma: (value) => Number(value).toFixed(1), cut: (value) => `${value} %` };
  const said = (words[range.id] ?? ((value) => `${Math.round(value)} %`))(range.value);
  range.nextElementSibling.value = said;
  range.setAttribute("aria-valuetext", said);
}

function fillMeasures(map) {
  const others = map?.layers.slice(1) ?? [];
  $("measure").replaceChildren(option("", "none"), ...others.map((one) => option(one.id, one.title)));
  $("measure-section").hidden = others.length === 0;
}

function fillOutlines(map, changed) {
  const boxes = (map?.outlines ?? []).map((one) => make("label", {}, make("input", { type: "checkbox", value: one.id }), one.title));
  $("outlines").replaceChildren($("outlines").firstElementChild, ...boxes);
  const ticked = () => [...$("outlines").querySelectorAll("input:checked")].map((box) => box.value);
  $("outlines").onchange = () => changed({ outlines: ticked() });
}

function fillFiles(about) {
  const items = about.maps.flatMap((map) =>
    map.files.map((file) => make("li", {}, make("a", { href: `files/${file.id}`, download: file.name }, file.name), make("span", {}, bytes(file.bytes)))),
  );
  $("files").hidden = items.length === 0;
  $("files").querySelector("ul").replaceChildren(...items);
}

/** Legend and areas in one table; `rows` is null as long as they are counted. */
export function showAreas(map, rows) {
  if (!map) {
    return;
  }
  const total = (rows ?? []).reduce((sum, row) => sum + row.area_m2, 0);
  const [unit, size] = total >= 1e6 ? ["km²", 1e6] : total >= 1e4 ? ["ha", 1e4] : ["m²", 1];
  const head = make("tr", {}, ...["class", unit, "%"].map((text) => make("th", { scope: "col" }, text)));
  const lines = map.legend.map((one, place) => {
    const row = rows?.[place];
    const swatch = make("span", { class: one.background ? "swatch none" : "swatch", title: one.background ? "not drawn" : one.colour });
    swatch.style.background = one.background ? "" : one.colour;
    const area = row ? digits(row.area_m2 / size, 3) : "…";
    const share = row ? (row.share === null ? "–" : digits(100 * row.share, 2)) : "…";
    return make("tr", {}, make("th", { scope: "row" }, swatch, one.name), make("td", {}, area), make("td", {}, share));
  });
  $("areas").replaceChildren(make("thead", {}, head), make("tbody", {}, ...lines));
}

function showMeasureLegend(about, layer) {
  const place = $("measure-legend");
  place.hidden = !layer;
  if (!layer) {
    return;
  }
  if (layer.ends) {
    const bar = make("div", { class: "ramp" });
    bar.style.background = `linear-gradient(to right, ${about.ramp.join(", ")})`;
    place.replaceChildren(bar, make("div", { class: "ends" }, ...layer.ends.map((end) => make("span", {}, short(end)))));
    return;
  }
  const names = layer.legend.map((one) => {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = one.colour;
    return make("li", {}, swatch, one.name);
  });
  place.replaceChildren(make("ul", { class: "names" }, ...names));
}

const count = (value) => value.toLocaleString("en");
const digits = (value, after) => value.toLocaleString("en", { minimumFractionDigits: after, maximumFractionDigits: after });
const bytes = (size) => (size >= 1e6 ? `${digits(size / 1e6, 1)} MB` : `${digits(size / 1e3, 1)} kB`);

/** A number with few digits. */
export const short = (value) => Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
/** An area in the unit in which people say it. */
export const area = (m2) => (m2 >= 1e6 ? `${digits(m2 / 1e6, 3)} km²` : m2 >= 1e4 ? `${digits(m2 / 1e4, 2)} ha` : `${digits(m2, 0)} m²`);
export { make };
