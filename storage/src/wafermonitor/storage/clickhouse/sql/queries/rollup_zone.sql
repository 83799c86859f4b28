SELECT timeZoneOffset(toDateTime(0, {zone:String}))
