SELECT name, value FROM setting FINAL
