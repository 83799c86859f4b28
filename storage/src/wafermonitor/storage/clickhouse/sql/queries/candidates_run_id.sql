trace_id IN (SELECT trace_id FROM run_word WHERE field = 'run_id' AND word IN (SELECT arrayJoin({run_id:Array(String)})))
