"""Read models: everything that anybody sees is a fold over the log. One file = one read model = its table, fold and queries.

A query takes the database (an asyncpg pool fits `projections.database.Database`) and the workspace; it returns row dataclasses,
or `page.Rows(items, next)`; `limit` 1..1000, `cursor` is opaque (a broken one raises core.errors.Invalid). A row that is not
there is None. Before a query: `await progress.wait(MODEL_NAME, position_or_None, workspace=...)`, which raises Behind, OtherLog or
Stopped (503 `read_model_stopped`); `position` is the caller's Foldline-Position. Over the measurements log the position is ignored.

Over the events log (module . query -> row):
  run_history      get(db, w, run) -> RunRow | None · page(db, w, *, experiment, status, parent, tags, archived, limit, cursor)
                   · counts(db, w, experiment=None) -> {status: n} · active(db, w, compute=None) -> [run] (not final) · why(row) -> sentence
  experiments      get(db, w, name) · page(db, w, *, archived, limit, cursor) -> ExperimentRow
  model_registry   version(db, w, model, version | None = latest) -> ModelVersionRow · versions(db, w, model, *, tags, limit, cursor)
                   · model(db, w, name) -> ModelView · models(db, w, *, name, tags, limit, cursor) -> Rows[ModelView]
  computes         get(db, w, name) -> ComputeView · page(db, w, *, limit, cursor)            (wait for `computes` and `nodes`)
  nodes            get(db, w, node) · page(db, w, compute=None, *, gone=False, limit, cursor) -> NodeRow
  endpoints        get(db, w, name) -> EndpointRow(.deployments: {name: DeploymentView}) · page(db, w, *, limit, cursor)
  environments     get(db, w, name, version | None = latest) -> EnvironmentRow
                   · versions(db, w, name, *, limit, cursor) · page(db, w, *, limit, cursor) (the latest of each)
  workspaces       get(db, w) · by_name(db, name) · page(db, *, member=user | None (all), limit, cursor)
                   -> WorkspaceRow(.members: {user: role})
  users            get(db, user) · page(db, *, limit, cursor) -> UserRow(.user_id, .tokens: {token: TokenView})
  journal          page(db, w, *, subject, actor, event_type, since, until, limit, cursor, newest_first)
                   · story(db, w, run, *, limit, cursor)
                   -> JournalRow(.cause, .event)
Over the measurements log:
  run_metrics      summaries(db, w, run, *, attempt=None (newest), kind="points") -> [MetricRow]
                   · last_values(db, w, runs) -> {run: {key: value}}
                   · curve(db, w, run, key, *, attempt=None, buckets=500, kind="points") -> CurveView | None
  run_logs         length(db, w, run, attempt, name) -> int · read(db, w, run, attempt, name, offset=0, bytes_max=1 MiB) -> LogPiece
                   · names(db, w, run, attempt=None) -> [LogRow]
  source_progress  of_run(db, w, run) -> [SourceRow] · complete(db, w, run, sources: Sequence[SourceEnd]) -> bool
"""
