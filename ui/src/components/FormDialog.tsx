/** A button that opens a form, which closes when it is done. */
import { Button, type ButtonProps } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useLacking } from "../hooks/rights";
import { named } from "./ActionButton";
import { Denied } from "./Denied";
import { FocusedModal } from "./FocusedModal";
import { SchemaForm, type SchemaFormProps } from "./SchemaForm";

interface Props extends Omit<SchemaFormProps, "onCancel"> {
  /** What the button says. */
  label: string;
  /** What the dialog is called, and who hears the button: `Change web@pve`. */
  title: string;
  look?: ButtonProps;
}

export function FormDialog({ label, title, look = { variant: "default" }, onDone, ...form }: Props) {
  const [opened, { open, close }] = useDisclosure();
  const lacking = useLacking();
  const initial = form.initial ?? {};
  const sent = form.action(initial);
  // Before somebody has typed whose or which, the place is not known yet.
  const lacks = lacking(/\/(\/|$)/.test(sent.path) ? { ...form.operation, parameters: initial } : sent);
  return (
    <>
      <Denied lacks={lacks}>
        <Button {...look} onClick={open} {...(label !== title && { "aria-label": named(label, title) })}>
          {label}
        </Button>
      </Denied>
      <FocusedModal opened={opened} onClose={close} title={title} size="lg">
        <SchemaForm
          {...form}
          onCancel={close}
          onDone={(done, values) => {
            close();
            onDone?.(done, values);
          }}
        />
      </FocusedModal>
    </>
  );
}
