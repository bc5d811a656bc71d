/** What an operation takes, of the OpenAPI document, which is asked for when the first form needs it. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { readDocument } from "../api/document";
import { type OperationName, type RequestSchema, requestSchema } from "../logic/schema";

export interface KnownSchema {
  /** Undefined while it is asked for, and when there is no such operation. */
  readonly schema: RequestSchema | undefined;
  readonly error: Error | null;
}

export function useRequestSchema({ method, path }: OperationName): KnownSchema {
  const { data, error } = useQuery({
    queryKey: ["document"],
    queryFn: readDocument,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: Number.POSITIVE_INFINITY,
  });
  const schema = useMemo(() => data && requestSchema(data, { method, path }), [data, method, path]);
  return { schema, error };
}
