trace_id IN (SELECT trace_id FROM run_word WHERE field = 'lot' AND word IN (SELECT arrayJoin({lot:Array(String)})))
