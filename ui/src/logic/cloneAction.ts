/** Making a guest of another one. */
import { type Action, shellCommand } from "./actions";
import { type ActedOn, nameOf, placeOf } from "./guestActions";
import { given, type Values } from "./schema";

const IN_COMMAND = new Set(["newid", "name", "hostname", "full", "storage", "format", "snapname"]);

export function clone(guest: ActedOn, values: Values): Action {
  const name = values.name || values.hostname || "";
  const told = Object.entries(values).filter(([, value]) => value !== "");
  const words = [
    ...(values.newid ? ["--vmid", values.newid] : []),
    ...(values.full === "1" ? ["--full"] : []),
    ...(values.storage ? ["--storage", values.storage] : []),
    ...(values.format ? ["--format", values.format] : []),
    ...(values.snapname ? ["--snapshot", values.snapname] : []),
  ];
  const simple = name !== "" && told.every(([key]) => IN_COMMAND.has(key));
  return {
    title: name === "" ? `Clone ${nameOf(guest)}` : `Clone ${nameOf(guest)} as ${name}`,
    method: "POST",
    path: `${placeOf(guest)}/clone`,
    parameters: given(values),
    command: simple ? shellCommand("bastide", "clone", nameOf(guest), name, ...words) : undefined,
  };
}
