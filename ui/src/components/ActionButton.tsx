/** A button that does an action; it asks first where the action says so. Beside it: the action as a command and a call. */
import { Button, type ButtonProps, Group } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { type ReactNode, useState } from "react";
import { type Done, tellFailure, useAct } from "../hooks/actions";
import { useLacking } from "../hooks/rights";
import { type Action, asked } from "../logic/actions";
import { ConfirmAction } from "./ConfirmAction";
import { CopyAs } from "./CopyAs";
import { Denied } from "./Denied";

interface Props extends Omit<ButtonProps, "children" | "loading"> {
  action: Action;
  /** What the button says, where it is less than the action's title. */
  children?: ReactNode;
  /** Leave out *Copy as*, where a place has one for several actions. */
  plain?: boolean;
  onDone?: (done: Done) => void;
}

export function ActionButton({ action, children, plain = false, onDone, ...look }: Props) {
  const { run, busy, question } = useActing(action, onDone);
  const lacks = useLacking()(action);
  const pressed = (
    <Button
      variant="default"
      {...(action.danger && { color: "red", variant: "outline" })}
      {...look}
      aria-label={typeof children === "string" ? named(children, action.title) : undefined}
      loading={busy}
      onClick={run}
    >
      {children ?? action.title}
    </Button>
  );
  const button = <Denied lacks={lacks}>{pressed}</Denied>;
  return (
    <>
      {plain ? (
        button
      ) : (
        <Group gap={2} wrap="nowrap" display="inline-flex">
          {button}
          <CopyAs action={action} />
        </Group>
      )}
      {question}
    </>
  );
}

/** Says all that the action does, and what the button shows: who speaks to the page says that. */
export function named(shown: string, title: string): string {
  return title.includes(shown) ? title : `${shown}: ${title}`;
}

/** What a button of any look needs: `run` on a click, and `question` put somewhere beside it. */
export function useActing(action: Action, onDone?: (done: Done) => void) {
  const act = useAct();
  const [busy, setBusy] = useState(false);
  const [opened, { open, close }] = useDisclosure();
  async function doIt(): Promise<void> {
    setBusy(true);
    try {
      const done = await act(action);
      onDone?.(done);
    } catch (error) {
      tellFailure(action.title, error);
    } finally {
      setBusy(false);
    }
  }
  const question = asked(action) ? (
    <ConfirmAction action={action} opened={opened} onClose={close} onDone={onDone} />
  ) : null;
  return { run: asked(action) ? open : () => void doIt(), busy, question };
}
