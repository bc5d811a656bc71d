import type { ReactNode } from "react";
import { PageFrame } from "../../components/PageFrame";
import { beside } from "./places";

interface Props {
  title: string;
  about?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}

export function ArchitectFrame(props: Props) {
  return <PageFrame {...props} beside={beside} besideLabel="Architect" />;
}
