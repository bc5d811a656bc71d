import { createTheme } from "@mantine/core";

export const theme = createTheme({
  primaryColor: "blue",
  // Light enough to be read on dark, dark enough on white: WCAG 2.2 AA asks for 4.5:1.
  primaryShade: 8,
  fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
  fontFamilyMonospace: "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, monospace",
  defaultRadius: "sm",
  cursorType: "pointer",
  autoContrast: true,
  components: {
    // Inputs side by side stand in line, whichever of them are explained.
    InputWrapper: { defaultProps: { inputWrapperOrder: ["label", "input", "error", "description"] } },
    // Told from the words around it by more than its colour.
    Anchor: { defaultProps: { underline: "always" } },
    // Mantine gives its crosses no names.
    Drawer: { defaultProps: { closeButtonProps: { "aria-label": "Close" } } },
    // A span without a role may have no name.
    Loader: { defaultProps: { role: "status" } },
    // Its placeholder is a child that a menu may not have, and the first entry can have the focus as well.
    Menu: { defaultProps: { withInitialFocusPlaceholder: false } },
    Modal: { defaultProps: { closeButtonProps: { "aria-label": "Close" } } },
    Notification: { defaultProps: { closeButtonProps: { "aria-label": "Close" } } },
  },
});
