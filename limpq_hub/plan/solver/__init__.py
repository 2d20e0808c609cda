"""The exact optimum of one search: enumeration near a bound, dynamic programme, PuLP."""
