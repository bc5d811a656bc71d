/** Fields with what they can be set to, where the schema cannot say it. */
import { asField, type FieldSpec } from "./schema";

/** Any other text may be typed, too: what is set already may be known to the host no more. */
export function withChoices(
  fields: readonly FieldSpec[],
  known: Readonly<Record<string, readonly string[]>>,
): FieldSpec[] {
  return fields.map((spec): FieldSpec => {
    const field = asField(spec);
    const options = known[field.name];
    const parts = field.parts && withChoices(field.parts, known);
    return {
      ...field,
      ...(options !== undefined && options.length > 0 && { options: [...new Set(options)], open: true }),
      ...(parts !== undefined && { parts }),
    };
  });
}
