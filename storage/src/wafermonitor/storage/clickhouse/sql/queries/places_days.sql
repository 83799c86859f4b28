    SELECT site, (quarter, job) AS place
    FROM run_measured
    WHERE quarter IN (SELECT one * 96 + number FROM (SELECT arrayJoin({days:Array(Int64)}) AS one) AS days, numbers(96) AS quarters)
