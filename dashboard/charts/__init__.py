"""Charts: functions from rows to a plain Vega-Lite dictionary, an alternative sentence made from the data, and the table underneath.

Nothing in here knows Streamlit or a query; nothing draws more than about 2,000 marks.
"""
