/** Copy and paste by buttons, for what has no keys for them; asks for the text where the browser keeps its clipboard. */
import { Button, Popover, Stack, Textarea } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconClipboard, IconCopy } from "@tabler/icons-react";
import { type FormEvent, useState } from "react";

interface PasteProps {
  /** What the button says, such as `Paste`. */
  label: string;
  help: string;
  onText: (text: string) => void;
}

/** A text to be sent to the guest. */
export function PasteButton({ label, help, onText }: PasteProps) {
  const [opened, { open, close }] = useDisclosure();
  const [text, setText] = useState("");
  // Who has sent something goes on in the console, who has not is where they were.
  const [sent, setSent] = useState(false);

  async function begin(): Promise<void> {
    setText(await clipboardText());
    setSent(false);
    open();
  }
  function submit(event: FormEvent): void {
    event.preventDefault();
    setSent(true);
    close();
    onText(text);
  }

  return (
    <Popover
      opened={opened}
      onDismiss={close}
      withinPortal={false}
      width={300}
      trapFocus
      returnFocus={!sent}
      shadow="md"
    >
      <Popover.Target>
        <Button
          variant="default"
          size="xs"
          leftSection={<IconClipboard size={14} />}
          onClick={() => (opened ? close() : void begin())}
        >
          {label}
        </Button>
      </Popover.Target>
      <Popover.Dropdown aria-label={label}>
        <Stack component="form" gap="xs" onSubmit={submit}>
          <Textarea
            label="Text"
            description={help}
            autosize
            minRows={2}
            maxRows={8}
            spellCheck={false}
            data-autofocus
            value={text}
            onChange={(event) => setText(event.currentTarget.value)}
          />
          <Button type="submit" size="xs" disabled={text === ""}>
            Send
          </Button>
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
}

async function clipboardText(): Promise<string> {
  try {
    return await navigator.clipboard.readText();
  } catch {
    return ""; // the browser's user says no, or it has no such thing
  }
}

interface CopyProps {
  label: string;
  /** The text; an empty one is not copied. */
  text: () => string;
  /** What is told of an empty one. */
  nothing?: string;
}

export function CopyTextButton({ label, text, nothing = "Nothing is selected" }: CopyProps) {
  const [told, setTold] = useState<string>();
  async function copy(): Promise<void> {
    const found = text();
    if (found === "") {
      setTold(nothing);
    } else {
      await navigator.clipboard.writeText(found);
      setTold("Copied");
    }
    setTimeout(() => setTold(undefined), 2_000);
  }
  return (
    <Button
      variant="default"
      size="xs"
      aria-label={label}
      leftSection={<IconCopy size={14} />}
      onClick={() => void copy()}
    >
      <span role="status">{told ?? label}</span>
    </Button>
  );
}
