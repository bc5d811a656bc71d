/** A user's second factors. */
import { useQuery } from "@tanstack/react-query";
import { answer, api } from "../api/client";
import type { FactorRow } from "../logic/factors";

export function useFactors(userid: string) {
  return useQuery({
    queryKey: ["access", "tfa", userid],
    queryFn: async () => {
      const params = { path: { userid } };
      return (await answer<unknown>(api.GET("/api2/json/access/tfa/{userid}", { params }))) as readonly FactorRow[];
    },
  });
}
