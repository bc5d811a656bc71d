/** What do you want to run? A service of the catalog or of one's own, the advice about it, and one button to have it. */
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import type { Values } from "../../logic/schema";
import { ArchitectFrame } from "./ArchitectFrame";
import { CatalogSearch } from "./CatalogSearch";
import { Launched } from "./Launched";
import { ServiceDesk } from "./ServiceDesk";

export interface ArchitectSearch {
  /** The form is shown without a service of the catalog. */
  readonly describe?: boolean;
  /** The launch that is followed. */
  readonly task?: string;
  readonly [name: string]: string | boolean | undefined;
}

export function Architect() {
  const search = useSearch({ from: "/architect" });
  const navigate = useNavigate();
  const [words, setWords] = useState("");
  const [category, setCategory] = useState<string | null>(null);
  const { describe, task, ...rest } = search;
  const values = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, String(value)])) as Values;
  const chosen = describe || Object.keys(values).length > 0;

  function go(next: ArchitectSearch, replace = false): void {
    void navigate({ to: "/architect", search: next, replace });
  }

  return (
    <ArchitectFrame
      title="What do you want to run?"
      about="The architect says whether a service should be a container or a VM on this host, why, and what it costs here."
    >
      {task !== undefined ? (
        <Launched
          upid={task}
          service={values.service}
          onAgain={() => go({})}
          onBack={() => go({ ...values, describe: true })}
        />
      ) : chosen ? (
        <ServiceDesk
          key={values.service}
          initial={values}
          onValues={(now) => go({ ...now, describe: true }, true)}
          onBack={() => go({})}
          onLaunched={(upid, now) => go({ ...now, task: upid })}
        />
      ) : (
        <CatalogSearch
          words={words}
          category={category}
          onWords={setWords}
          onCategory={setCategory}
          onChoose={(service) => go({ service })}
          onDescribe={() => go({ describe: true })}
        />
      )}
    </ArchitectFrame>
  );
}
