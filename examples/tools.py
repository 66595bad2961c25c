"""Tools that Puna can run for a model: any typed function with `@tool`.

puna ask "What is the weather in Stockholm?" --tools examples/tools.py
puna chat --tools examples/tools.py
puna serve --tools examples/tools.py
"""

from puna import ToolFailed, tool

# A weather station would be asked here; this one is a table.
STATION = {
    "Stockholm": "light snow, 1 degree",
    "Nairobi": "sunny, 24 degrees",
    "Lima": "foggy, 17 degrees",
    "Tokyo": "rainy, 14 degrees",
}


@tool(read_only=True)  # it changes nothing, so it may run without asking anyone
def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: The city
    """
    if city not in STATION:
        raise ToolFailed(f"there is no station in {city}; there are {', '.join(STATION)}")
    return f"The weather in {city} is {STATION[city]}."
