/** A text in YAML with completion and marks at what is wrong. Loaded when it is first shown. */
import { autocompletion, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { type Diagnostic, lintGutter, setDiagnostics } from "@codemirror/lint";
import { tags } from "@lezer/highlight";
import { basicSetup, EditorView } from "codemirror";
import { useEffect, useRef } from "react";
import { nonce } from "../nonce";

export interface Mark {
  /** Counted from 1. */
  readonly line: number;
  /** Columns; the whole line without. */
  readonly from?: number;
  readonly to?: number;
  readonly message: string;
}

export interface Offer {
  readonly label: string;
  readonly detail?: string;
  readonly after?: string;
}

interface Props {
  label: string;
  value: string;
  onChange: (value: string) => void;
  marks: readonly Mark[];
  /** What may stand at a place: lines and columns are counted from 0. */
  offers: (text: string, line: number, column: number) => { from: number; options: readonly Offer[] } | undefined;
}

const look = EditorView.theme({
  "&": { border: "1px solid var(--mantine-color-default-border)", backgroundColor: "var(--mantine-color-body)" },
  "&.cm-focused": { outline: "2px solid var(--mantine-primary-color-filled)" },
  ".cm-content": {
    fontFamily: "var(--mantine-font-family-monospace)",
    fontSize: "0.875rem",
    caretColor: "currentColor",
  },
  ".cm-cursor": { borderLeftColor: "var(--mantine-color-text)" },
  ".cm-scroller": { maxHeight: "60vh", overflow: "auto" },
  ".cm-content, .cm-gutter": { minHeight: "16rem" },
  ".cm-gutters": {
    backgroundColor: "var(--mantine-color-default-hover)",
    color: "var(--mantine-color-dimmed)",
    borderRight: "1px solid var(--mantine-color-default-border)",
  },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--mantine-color-default-hover)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--mantine-primary-color-light-hover)",
  },
  ".cm-tooltip, .cm-panels": {
    backgroundColor: "var(--mantine-color-body)",
    color: "var(--mantine-color-text)",
    border: "1px solid var(--mantine-color-default-border)",
  },
  ".cm-completionDetail": { color: "var(--mantine-color-dimmed)", fontStyle: "normal" },
});

const colors = syntaxHighlighting(
  HighlightStyle.define([
    { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--mantine-color-blue-text)" },
    { tag: [tags.string, tags.content], color: "var(--mantine-color-text)" },
    { tag: [tags.comment, tags.lineComment], color: "var(--mantine-color-dimmed)" },
    { tag: [tags.separator, tags.punctuation, tags.squareBracket, tags.brace], color: "var(--mantine-color-dimmed)" },
    { tag: [tags.keyword, tags.typeName, tags.meta], color: "var(--mantine-color-grape-text)" },
  ]),
);

/**
 * Text that takes the place of a selection is put in by the editor itself: Chromium would keep the look of what was
 * selected with a `style` attribute, which the page's Content-Security-Policy refuses.
 */
const replacing = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { from, to, empty } = view.state.selection.main;
    const text = event.data;
    if (event.inputType !== "insertText" || text === null || empty || view.composing) {
      return false;
    }
    const insert = () => view.state.update(view.state.replaceSelection(text), { userEvent: "input.type" });
    if (!view.state.facet(EditorView.inputHandler).some((handle) => handle(view, from, to, text, insert))) {
      view.dispatch(insert());
    }
    return true;
  },
});

function diagnostics(view: EditorView, marks: readonly Mark[]): Diagnostic[] {
  return marks
    .filter((mark) => mark.line >= 1 && mark.line <= view.state.doc.lines)
    .map((mark) => {
      const line = view.state.doc.line(mark.line);
      const from = Math.min(line.to, line.from + (mark.from ?? line.text.search(/\S|$/)));
      const to = Math.min(line.to, line.from + (mark.to ?? line.text.length));
      return { from, to: Math.max(from, to), severity: "error", message: mark.message };
    });
}

export default function YamlEditor({ label, value, onChange, marks, offers }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const editor = useRef<EditorView>(null);
  const latest = useRef({ value, onChange, offers });
  latest.current = { value, onChange, offers };

  useEffect(() => {
    const offered = (context: CompletionContext): CompletionResult | null => {
      const line = context.state.doc.lineAt(context.pos);
      const typed = context.pos > line.from && /[\w:-]/.test(line.text[context.pos - line.from - 1] ?? "");
      if (!context.explicit && !typed) {
        return null;
      }
      const found = latest.current.offers(context.state.doc.toString(), line.number - 1, context.pos - line.from);
      if (found === undefined) {
        return null;
      }
      const options = found.options.map(({ label: text, detail, after = "" }) => ({
        label: text,
        apply: text + after,
        ...(detail !== undefined && { info: detail }),
      }));
      return { from: line.from + found.from, options, validFor: /^[\w.+-]*$/ };
    };
    const view = new EditorView({
      parent: place.current ?? document.body,
      doc: latest.current.value,
      extensions: [
        EditorView.cspNonce.of(nonce()),
        basicSetup,
        yaml(),
        look,
        colors,
        lintGutter(),
        replacing,
        autocompletion({ override: [offered] }),
        EditorView.contentAttributes.of({ "aria-label": label }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) {
            latest.current.onChange(update.state.doc.toString());
          }
        }),
      ],
    });
    editor.current = view;
    return () => view.destroy();
  }, [label]);

  useEffect(() => {
    const view = editor.current;
    if (view !== null && view.state.doc.toString() !== value) {
      view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: value } });
    }
  }, [value]);

  useEffect(() => {
    const view = editor.current;
    if (view !== null) {
      view.dispatch(setDiagnostics(view.state, diagnostics(view, marks)));
    }
  }, [marks]);

  return <div ref={place} />;
}
