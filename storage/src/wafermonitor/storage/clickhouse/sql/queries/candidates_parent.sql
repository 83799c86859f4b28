trace_id = toFixedString(unhex({parent_trace:String}), 16)
