SELECT intDiv(quarter, 96) AS day, count()
FROM run_measured
WHERE quarter >= {quarter:Int64}
GROUP BY day
ORDER BY day DESC
