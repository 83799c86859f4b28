trace_id IN (SELECT trace_id FROM run_word WHERE field = 'substrate' AND word IN (SELECT arrayJoin({substrate:Array(String)})))
