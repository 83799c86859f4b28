SELECT
  toUnixTimestamp64Micro(now64(6)) AS now_us,
  (SELECT argMax((at_us, holder, token, zone), at_us) FROM rollup_state) AS newest,
  (SELECT argMax(words, changed) FROM setting WHERE name = 'time_zone') AS zone
