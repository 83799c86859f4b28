-- Bytes of the archive for a day: of each signal by day its newest seven days, of runs the newest month.
SELECT coalesce(sum(bytes), 0)::double precision FROM (
  SELECT signal, sum(size_bytes) / count(DISTINCT day) / CASE signal WHEN 'runs' THEN 30 ELSE 1 END AS bytes
  FROM (
    SELECT signal, day, size_bytes, dense_rank() OVER (PARTITION BY signal ORDER BY day DESC) AS nth
    FROM wafer_data.archive_manifest WHERE retired_at IS NULL
  ) newest
  WHERE nth <= CASE signal WHEN 'runs' THEN 1 ELSE 7 END
  GROUP BY signal
) signals
