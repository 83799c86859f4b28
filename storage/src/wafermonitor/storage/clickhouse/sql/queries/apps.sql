SELECT site, service, newest
FROM app FINAL
WHERE {site:String} = '' OR site = {site:String}
ORDER BY site, service
