package money

import "strings"

// Currency is an ISO 4217 code in capital letters, such as GBP.
type Currency string

// ParseCurrency returns the currency whose code s is, or a rule.Invalid error if there is none in use.
func ParseCurrency(s string) (Currency, error) {
	if c := Currency(s); c.Valid() {
		return c, nil
	}
	return "", errCurrency(s)
}

// Valid reports whether c is the code of a currency in use.
func (c Currency) Valid() bool {
	_, ok := decimals[c]
	return ok
}

// Decimals returns how many decimals amounts of c have; 2 if c is not valid.
func (c Currency) Decimals() int {
	if d, ok := decimals[c]; ok {
		return d
	}
	return usualDecimals
}

const usualDecimals = 2

// The currencies and funds in use, from list one of ISO 4217 without precious metals, bond market units, and codes for
// testing or for no currency. Countries that change their money change this table.
var decimals = table(map[int]string{
	0: `BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF`,
	usualDecimals: `AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
		CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG
		HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK
		MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE
		SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW
		ZWG`,
	3: `BHD IQD JOD KWD LYD OMR TND`,
	4: `CLF UYW`,
})

func table(codes map[int]string) map[Currency]int {
	t := make(map[Currency]int)
	for d, list := range codes {
		for _, code := range strings.Fields(list) {
			t[Currency(code)] = d
		}
	}
	return t
}
