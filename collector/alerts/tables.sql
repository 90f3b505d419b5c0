-- Tables of the detector. Times are minutes, hours and days since 1970, as integers: arithmetic on them is exact, and joins on them are quick.
-- `exposed` turns could have become one of the `n`: all turns of the minute where the route is not known, since a turn is lost or refused before it has one.
CREATE TABLE minutes (minute BIGINT, route VARCHAR, tier VARCHAR, n BIGINT, k BIGINT, exposed BIGINT);
CREATE TABLE excluded (route VARCHAR, tier VARCHAR, first BIGINT, last BIGINT);
CREATE TABLE hours (hour BIGINT, route VARCHAR, tier VARCHAR, n BIGINT, k DOUBLE, exposed BIGINT);
CREATE TABLE rates (hour BIGINT, route VARCHAR, tier VARCHAR, p0 DOUBLE, age BIGINT);
CREATE TABLE blocks (day BIGINT, scope VARCHAR, route VARCHAR, tier VARCHAR, w BIGINT, deviation DOUBLE, variance DOUBLE, e2 DOUBLE, e DOUBLE);
CREATE TABLE spreads (scope VARCHAR, route VARCHAR, tier VARCHAR, w BIGINT, phi DOUBLE);
CREATE TABLE series (scope VARCHAR, route VARCHAR, tier VARCHAR);
CREATE TABLE restarts (scope VARCHAR, route VARCHAR, tier VARCHAR, after BIGINT);
CREATE TABLE windows (w BIGINT, bursts BIGINT);
