"""Tools of a bookshop. Start the service with LASTWORD_SERVICE_TOOLS=docs/examples/shop_tools.py."""

from typing import Any

from service.providers.port import Passage
from service.tools.registry import Output, ToolContext, ToolError, tool

ORDERS = {"1017": "sent on Monday", "1018": "in packing"}  # the shop's own database, here


@tool(
    name="order_status",
    description="Looks up where an order is.",
    input_schema={"type": "object", "properties": {"number": {"type": "string", "maxLength": 12}}, "required": ["number"]},
    time_limit_s=3.0,
    usable=lambda output: bool(output.passages),  # an order that does not exist is no evidence
)
def order_status(arguments: dict[str, Any], _: ToolContext) -> Output:
    """The order's state, with the page that shows it as the source."""
    number = arguments["number"]
    if number not in ORDERS:
        return Output(text=f"There is no order {number}.")
    text = f"Order {number} is {ORDERS[number]}."
    page = Passage(url=f"https://shop.example/orders/{number}", title=f"Order {number}", publisher="Bookshop", text=text)
    return Output(text=text, passages=(page,))


@tool(
    name="open_return",
    description="Opens a return for an order, and mails the customer a label. Cannot be undone.",
    input_schema={"type": "object", "properties": {"number": {"type": "string", "maxLength": 12}}, "required": ["number"]},
    side_effects=True,  # once it has run, the turn is never tried again from the start
)
def open_return(arguments: dict[str, Any], context: ToolContext) -> Output:
    """The number of the return."""
    if arguments["number"] not in ORDERS:
        raise ToolError("There is no such order, so nothing can be returned.")
    return Output(text=f"Return R-{arguments['number']} is open (for {context.metadata.get('customer', 'a guest')}).")
