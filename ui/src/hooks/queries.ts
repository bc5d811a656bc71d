/** The cache of what was asked. Keys begin with a subject (`guests`, `tasks`, `storage` ...): see `events.ts`. */
import { QueryClient } from "@tanstack/react-query";
import { ApiError } from "../api/errors";

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 30_000,
      refetchOnWindowFocus: false,
      // What the API refuses it refuses again; a daemon that starts anew answers in a moment.
      retry: (failures, error) => !(error instanceof ApiError) && failures < 20,
      retryDelay: 500,
    },
    mutations: { retry: false },
  },
});
