import { Title } from "@mantine/core";
import { useParams } from "@tanstack/react-router";
import { useGuest } from "../../hooks/resources";

export function GuestPage() {
  const { vmid } = useParams({ from: "/guests/$vmid/$tab" });
  const guest = useGuest(Number(vmid));
  return <Title order={1}>{guest?.name ?? `Guest ${vmid}`}</Title>;
}
