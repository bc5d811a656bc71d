/** The space of a storage that is used; in words, too, where it is nearly full. */
import { UseBar } from "../../components/UseBar";
import { bytes, percent, share } from "../../logic/units";

const HIGH = 0.9;

export function Space({ used, total }: { used: number | undefined; total: number | undefined }) {
  const part = share(used, total);
  const text = `${bytes(used)} of ${bytes(total)} (${percent(part)})`;
  return <UseBar label="Used" part={part} words={part > HIGH ? `${text}, nearly full` : text} />;
}
